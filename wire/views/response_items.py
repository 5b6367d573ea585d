"""The output items of a response, built delta by delta, with the stream events for each step.

Invariant: a pure function of the deltas. So a stream that is read again has the same events with
the same ids, and the complete response equals the sum of its stream.
"""

from collections.abc import Sequence
from typing import Any, Literal

Event = dict[str, Any]
ItemStatus = Literal["completed", "incomplete"]


class OutputItems:
    """The output so far; each call returns the events it causes, without numbers."""

    def __init__(self, suffix: str) -> None:
        self.items: list[dict[str, Any]] = []
        self._suffix = suffix
        self._pieces: list[str] = []  # of the open item
        self._open: dict[str, Any] | None = None
        self._call: int | None = None  # the engine's number of the open call
        self._logprobs: list[dict[str, Any]] = []

    def add(self, delta: dict[str, Any], logprobs: Sequence[dict[str, Any]] = ()) -> list[Event]:
        """Add a chat delta; returns its events."""
        events: list[Event] = []
        self._logprobs.extend(logprobs)
        if reasoning := delta.get("reasoning") or delta.get("reasoning_content"):
            events += self._grow("reasoning", "response.reasoning_text.delta", reasoning)
        if text := delta.get("content"):
            events += self._grow("message", "response.output_text.delta", text)
            events[-1]["logprobs"] = list(logprobs)
        for part in delta.get("tool_calls") or ():
            events += self._add_call(part)
        return events

    def close(self, status: ItemStatus) -> list[Event]:
        """End the open item with this status; returns its events."""
        item, self._open = self._open, None
        if item is None:
            return []
        text, self._pieces = "".join(self._pieces), []
        item["status"] = status
        events = ENDS[item["type"]](item, text)
        if item["type"] == "message":
            item["content"][0]["logprobs"], self._logprobs = self._logprobs, []
            events[0]["logprobs"] = item["content"][0]["logprobs"]
        done = {"type": "response.output_item.done", "item": item}
        return [self._at(event) for event in (*events, done)]

    def _grow(self, kind: str, event: str, text: str) -> list[Event]:
        events = [] if self._open and self._open["type"] == kind else self._begin(kind)
        self._pieces.append(text)
        event_with_index = self._at({"type": event, "item_id": self.items[-1]["id"], "delta": text})
        if kind != "function_call":
            event_with_index["content_index"] = 0
        return [*events, event_with_index]

    def _begin(self, kind: str, **fields: Any) -> list[Event]:
        events = self.close("completed")
        prefix, empty = KINDS[kind]
        name = f"{prefix}_{self._suffix}{len(self.items):04x}"
        item = {"id": name, "type": kind, "status": "in_progress", **empty, **fields}
        self.items.append(item)
        self._open = item
        added = {"type": "response.output_item.added", "item": dict(item)}
        events.append(self._at(added))
        if kind == "message":
            part = _text_part("")
            item["content"] = [part]
            opened = {"type": "response.content_part.added", "item_id": name, "content_index": 0}
            events.append(self._at({**opened, "part": dict(part)}))
        return events

    def _add_call(self, part: dict[str, Any]) -> list[Event]:
        """Add a piece of a function call: id and name arrive once, arguments in pieces."""
        events: list[Event] = []
        function = part.get("function") or {}
        is_open = self._open is not None and self._open["type"] == "function_call"
        if not is_open or self._call != part["index"]:
            self._call = part["index"]
            call_id = part.get("id") or f"call_{self._suffix}{len(self.items):04x}"
            events += self._begin("function_call", call_id=call_id, name=function.get("name") or "")
        if arguments := function.get("arguments"):
            name = "response.function_call_arguments.delta"
            events += self._grow("function_call", name, arguments)
        return events

    def _at(self, event: Event) -> Event:
        return {**event, "output_index": len(self.items) - 1}


KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "message": ("msg", {"role": "assistant", "content": []}),
    "reasoning": ("rs", {"summary": [], "content": []}),
    "function_call": ("fc", {"arguments": ""}),
}


def _text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _end_message(item: dict[str, Any], text: str) -> list[Event]:
    part = item["content"][0]
    part["text"] = text
    where = {"item_id": item["id"], "content_index": 0}
    return [
        {"type": "response.output_text.done", **where, "text": text},
        {"type": "response.content_part.done", **where, "part": part},
    ]


def _end_reasoning(item: dict[str, Any], text: str) -> list[Event]:
    item["content"] = [{"type": "reasoning_text", "text": text}]
    where = {"item_id": item["id"], "content_index": 0}
    return [{"type": "response.reasoning_text.done", **where, "text": text}]


def _end_call(item: dict[str, Any], text: str) -> list[Event]:
    item["arguments"] = text
    done = {"type": "response.function_call_arguments.done", "item_id": item["id"]}
    return [{**done, "name": item["name"], "arguments": text}]


ENDS = {"message": _end_message, "reasoning": _end_reasoning, "function_call": _end_call}
