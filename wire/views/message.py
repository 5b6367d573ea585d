"""Messages of Anthropic's API, complete or as a stream of events, built from a job's log.

Invariant: the blocks of a stream, put together, are those of the complete message.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from jobs.events import Event, EventType, Usage
from jobs.job import Job
from jobs.result import JobResult, ResultChoice
from jobs.status import Status
from wire.anthropic_error import anthropic_error
from wire.error_bodies import Problem, from_ending, from_error
from wire.errors import Restarted
from wire.sse import frame

REASONS = {"length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
#: Field of a delta -> type of the block, and the block's own field.
TEXTS = {
    "reasoning": ("thinking", "thinking"),
    "reasoning_content": ("thinking", "thinking"),
    "content": ("text", "text"),
    "refusal": ("text", "text"),
}


class MessageBlocks:
    """Turns deltas into events that open, extend and close blocks of content."""

    def __init__(self, *, thinking: bool) -> None:
        self._thinking = thinking
        self._count = 0
        self._open: tuple[str, int] | None = None

    @property
    def empty(self) -> bool:
        """Return whether no block was opened."""
        return self._count == 0

    def add(self, delta: dict[str, Any]) -> Iterable[dict[str, Any]]:
        """Yield the events of one delta."""
        for name, (kind, field) in TEXTS.items():
            if not delta.get(name) or (kind == "thinking" and not self._thinking):
                continue
            block: dict[str, Any] = {"type": kind, field: ""}
            if kind == "thinking":
                block["signature"] = ""
            yield from self._enter((kind, 0), block)
            yield self._delta({"type": f"{kind}_delta", field: delta[name]})
        for call in delta.get("tool_calls") or ():
            function = call.get("function") or {}
            block = {"type": "tool_use", "id": call.get("id"), "name": function.get("name")}
            yield from self._enter(("tool_use", call["index"]), {**block, "input": {}})
            if function.get("arguments"):
                piece = {"type": "input_json_delta", "partial_json": function["arguments"]}
                yield self._delta(piece)

    def close(self) -> Iterable[dict[str, Any]]:
        """Yield the event that closes the open block."""
        if self._open is not None:
            self._open = None
            yield {"type": "content_block_stop", "index": self._count - 1}

    def _enter(self, key: tuple[str, int], block: dict[str, Any]) -> Iterable[dict[str, Any]]:
        if self._open == key:
            return
        yield from self.close()
        self._open = key
        self._count += 1
        yield {"type": "content_block_start", "index": self._count - 1, "content_block": block}

    def _delta(self, delta: dict[str, Any]) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": self._count - 1, "delta": delta}


def message_object(job: Job, result: JobResult, *, thinking: bool) -> dict[str, Any]:
    """Build the complete message of a completed job."""
    choice = result.choices.get(0) or ResultChoice()
    blocks = MessageBlocks(thinking=thinking)
    events = [event for delta in choice.deltas for event in blocks.add(delta)]
    content = _content(events)
    uses_tool = any(block["type"] == "tool_use" for block in content)
    return {
        **_head(job),
        "content": content,
        **_stop(choice.finish_reason, choice.stop_reason, uses_tool=uses_tool),
        "usage": _usage(result.usage),
    }


def _content(events: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put the blocks together from their events."""
    content: list[dict[str, Any]] = []
    arguments = ""
    for event in events:
        if event["type"] == "content_block_start":
            content.append(event["content_block"])
            arguments = ""
        elif event["type"] == "content_block_delta":
            delta = event["delta"]
            if delta["type"] == "input_json_delta":
                arguments += delta["partial_json"]
                content[-1]["input"] = arguments
            else:
                field = "thinking" if delta["type"] == "thinking_delta" else "text"
                content[-1][field] += delta[field]
    for block in content:
        if block["type"] == "tool_use" and isinstance(block["input"], str):
            block["input"] = _arguments(block["input"])
    return content


def _arguments(text: str) -> dict[str, Any]:
    """Read a call's arguments; what is no JSON object is kept as text, as Anthropic advises."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {"INVALID_JSON": text}
    return value if isinstance(value, dict) else {"INVALID_JSON": text}


def _head(job: Job) -> dict[str, Any]:
    return {
        "id": f"msg_{job.id.removeprefix('job_')}",
        "type": "message",
        "role": "assistant",
        "model": job.queue,
    }


def _stop(reason: str | None, stop: str | int | None, *, uses_tool: bool) -> dict[str, Any]:
    sequence = stop if isinstance(stop, str) else None
    if uses_tool and reason in (None, "stop") and sequence is None:
        reason = "tool_calls"  # OpenAI ends a call of a named tool with `stop`
    named = "stop_sequence" if sequence is not None else "end_turn"
    return {"stop_reason": REASONS.get(reason or "", named), "stop_sequence": sequence}


def _usage(usage: Usage | None) -> dict[str, Any]:
    """Return the usage; Anthropic counts cached input tokens beside the others."""
    cached = usage["cached_input_tokens"] if usage else 0
    return {
        "input_tokens": usage["input_tokens"] - cached if usage else 0,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": usage["output_tokens"] if usage else 0,
    }


class MessageEvents:
    """Streams one message."""

    ping = b'event: ping\ndata: {"type":"ping"}\n\n'
    gets_grace = True

    def __init__(self, job: Job, *, thinking: bool) -> None:
        self.ended = False
        self._job = job
        self._blocks = MessageBlocks(thinking=thinking)
        self._reason: str | None = None
        self._stop_reason: str | int | None = None
        self._uses_tool = False
        head = {**_head(job), "content": [], "stop_reason": None, "stop_sequence": None}
        self.preamble = _encode(
            {"type": "message_start", "message": {**head, "usage": _usage(None)}}
        )

    def show(self, events: Sequence[Event]) -> bytes:
        """Encode a batch of events."""
        out: list[bytes] = []
        for event in events:
            if event.type == EventType.DELTA:
                out += self._delta(event.decode())
            elif event.type == EventType.RESTARTED and not self._blocks.empty:
                restarted = Restarted("the job was restarted: discard the output received so far")
                out.append(self._error(from_error(restarted, job_id=self._job.id)))
            elif event.type == EventType.FINISHED:
                out += self._finish(event.decode())
            if self.ended:
                break
        return b"".join(out)

    def fail(self, problem: Problem) -> bytes:
        """Encode an error that ends the stream."""
        return _encode(anthropic_error(problem, None))

    def _delta(self, data: dict[str, Any]) -> list[bytes]:
        delta = data.get("delta")
        if delta is None:
            delta = {"content": data["text"]}
        self._reason = data.get("finish_reason") or self._reason
        self._stop_reason = data.get("stop_reason", self._stop_reason)
        self._uses_tool = self._uses_tool or bool(delta.get("tool_calls"))
        return [_encode(event) for event in self._blocks.add(delta)]

    def _finish(self, data: dict[str, Any]) -> list[bytes]:
        status = Status(data["status"])
        if status is not Status.COMPLETED:
            return [self._error(from_ending(status, data["error"], self._job.id))]
        self.ended = True
        closing = [_encode(event) for event in self._blocks.close()]
        stop = _stop(self._reason, self._stop_reason, uses_tool=self._uses_tool)
        last = {"type": "message_delta", "delta": stop, "usage": _usage(data["usage"])}
        return [*closing, _encode(last), _encode({"type": "message_stop"})]

    def _error(self, problem: Problem) -> bytes:
        self.ended = True
        return self.fail(problem)


def _encode(event: dict[str, Any]) -> bytes:
    return frame(orjson.dumps(event), event=event["type"])
