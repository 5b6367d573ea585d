"""Converts between the items of the Responses API and the chat messages that engines read.

Invariant: a stored response is one whole conversation as chat messages, so that a retry, the
archive and a later response need nothing else. Converting it back gives equivalent items.
"""

from collections.abc import Sequence
from typing import Any

from wire.schemas.response_items import (
    AnyItem,
    FunctionCall,
    FunctionCallOutput,
    InputImage,
    InputMessage,
    OutputMessage,
    OutputText,
    ReasoningItem,
)

Message = dict[str, Any]


def to_messages(items: str | Sequence[AnyItem]) -> list[Message]:
    """Convert a response's input to chat messages."""
    if isinstance(items, str):
        return [{"role": "user", "content": items}]
    builder = _MessageBuilder()
    for item in items:
        builder.add(item)
    return builder.messages


class _MessageBuilder:
    """Builds messages; all items of one assistant turn become one message."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def add(self, item: AnyItem) -> None:
        match item:
            case InputMessage():
                self.messages.append({"role": item.role, "content": _content(item.content)})
            case FunctionCallOutput():
                content = _content(item.output)
                message = {"role": "tool", "tool_call_id": item.call_id, "content": content}
                self.messages.append(message)
            case OutputMessage():
                self._turn("content", "tool_calls").update(_assistant_fields(item))
            case FunctionCall():
                function = {"name": item.name, "arguments": item.arguments}
                call = {"id": item.call_id, "type": "function", "function": function}
                self._turn().setdefault("tool_calls", []).append(call)
            case ReasoningItem():
                thought = "".join(part.text for part in item.content or item.summary)
                turn = self._turn("reasoning", "content", "tool_calls")
                turn.update(reasoning=thought, content="")

    def _turn(self, *unless: str) -> Message:
        """Return the assistant's last message, or a new one if that has any of these fields."""
        last = self.messages[-1] if self.messages else {}
        if last.get("role") != "assistant" or any(last.get(name) for name in unless):
            last = {"role": "assistant"}
            self.messages.append(last)
        return last


def _content(content: Any) -> Any:
    """Convert a message's content; plain text stays plain."""
    if isinstance(content, str):
        return content
    return [_part(part) for part in content]


def _part(part: Any) -> dict[str, Any]:
    if isinstance(part, InputImage):
        image = {"url": part.image_url, "detail": part.detail}
        kept = {name: value for name, value in image.items() if value is not None}
        return {"type": "image_url", "image_url": kept}
    return {"type": "text", "text": part.text}


def _assistant_fields(item: OutputMessage) -> Message:
    if isinstance(item.content, str):
        return {"content": item.content}
    texts = [part.text for part in item.content if isinstance(part, OutputText)]
    refusals = [part.refusal for part in item.content if not isinstance(part, OutputText)]
    fields: Message = {"content": "".join(texts)}
    return {**fields, "refusal": "".join(refusals)} if refusals else fields


def to_items(messages: Sequence[Message], suffix: str) -> list[dict[str, Any]]:
    """Convert chat messages to items; the same messages always get the same ids."""
    items: list[dict[str, Any]] = []
    for message in messages:
        items += _items_of(message)
    for index, item in enumerate(items):
        item["id"] = f"{PREFIXES[item['type']]}_in{suffix}{index:04x}"
    return items


PREFIXES = {
    "message": "msg",
    "function_call": "fc",
    "function_call_output": "fco",
    "reasoning": "rs",
}


def _items_of(message: Message) -> list[dict[str, Any]]:
    role, content = message["role"], message.get("content")
    if role == "tool":
        output = content if isinstance(content, str) else _input_parts(content)
        call_id = message["tool_call_id"]
        return [_item("function_call_output", call_id=call_id, output=output)]
    if role != "assistant":
        return [_item("message", role=role, content=_input_parts(content))]
    items = []
    if message.get("reasoning"):
        thought = [{"type": "reasoning_text", "text": message["reasoning"]}]
        items.append(_item("reasoning", summary=[], content=thought))
    parts: list[dict[str, Any]] = []
    if content:
        parts.append({"type": "output_text", "text": content, "annotations": []})
    if message.get("refusal"):
        parts.append({"type": "refusal", "refusal": message["refusal"]})
    if parts:
        items.append(_item("message", role=role, content=parts))
    calls = message.get("tool_calls") or ()
    made = [_item("function_call", call_id=call["id"], **call["function"]) for call in calls]
    return [*items, *made]


def _item(kind: str, **fields: Any) -> dict[str, Any]:
    return {"id": None, "type": kind, "status": "completed", **fields}


def _input_parts(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "input_text", "text": content}]
    return [_input_part(part) for part in content]


def _input_part(part: dict[str, Any]) -> dict[str, Any]:
    if part["type"] == "text":
        return {"type": "input_text", "text": part["text"]}
    image = part["image_url"]
    return {
        "type": "input_image",
        "image_url": image["url"],
        "detail": image.get("detail", "auto"),
    }
