"""Converts OpenAI's old `functions` and `function_call` to tools, the only form that engines know.

Invariant: the converted chat says the same, and a chat without the old fields stays as it is. A
model that gets `functions` makes at most one call, as the old answer has room for one.
"""

from collections.abc import Mapping
from typing import Any

Message = dict[str, Any]

#: The names of fields as the client sent them, by the names that engines know.
OLD_NAMES = {"tools": "functions", "tool_choice": "function_call"}


def has_functions(body: Mapping[str, Any]) -> bool:
    """Return whether the client offers functions in the old form."""
    return bool(body.get("functions"))


def with_tools(body: dict[str, Any]) -> dict[str, Any]:
    """Return a chat's validated body with tools in place of functions."""
    body = body if body.keys().isdisjoint(("functions", "function_call")) else _tools(body)
    messages: list[Message] = body.get("messages") or []
    if any(map(_is_old, messages)):
        body = {**body, "messages": _messages(messages)}
    return body


def _tools(body: dict[str, Any]) -> dict[str, Any]:
    body = dict(body)
    functions, choice = body.pop("functions", None), body.pop("function_call", None)
    if functions:
        body["tools"] = [{"type": "function", "function": function} for function in functions]
        body["parallel_tool_calls"] = False
    if isinstance(choice, Mapping):
        choice = {"type": "function", "function": choice}
    if choice is not None:
        body["tool_choice"] = choice
    return body


def _is_old(message: Mapping[str, Any]) -> bool:
    return message.get("role") == "function" or message.get("function_call") is not None


def _messages(messages: list[Message]) -> list[Message]:
    """Give each call an id, and each result the id of the last call of its function."""
    converted: list[Message] = []
    calls: dict[str, str] = {}
    for place, message in enumerate(messages):
        call_id = f"call{place:05}"  # nine characters: some templates take no other length
        if message.get("function_call") is not None:
            function = message["function_call"]
            calls[function["name"]] = call_id
            call = {"id": call_id, "type": "function", "function": function}
            rest = {name: value for name, value in message.items() if name != "function_call"}
            converted.append({**rest, "tool_calls": [call]})
        elif message.get("role") == "function":
            answered = calls.get(message["name"], call_id)
            content = "" if message.get("content") is None else message["content"]
            fields = {"role": "tool", "tool_call_id": answered, "content": content}
            converted.append({**message, **fields})
        else:
            converted.append(message)
    return converted
