"""Shows a tool call as OpenAI's old `function_call`, to clients that sent `functions`.

Invariant: the old form has room for one call, so the first one is shown.
"""

from typing import Any


def with_function_call(message: dict[str, Any]) -> dict[str, Any]:
    """Return a complete message in the old form."""
    calls = message.get("tool_calls")
    if not calls:
        return message
    rest = {name: value for name, value in message.items() if name != "tool_calls"}
    return {**rest, "function_call": calls[0]["function"]}


def with_function_call_piece(delta: dict[str, Any]) -> dict[str, Any]:
    """Return a piece of a message in the old form."""
    if not delta.get("tool_calls"):
        return delta
    rest = {name: value for name, value in delta.items() if name != "tool_calls"}
    shown: dict[str, Any] = {}
    for part in delta["tool_calls"]:
        function = part.get("function") or {}
        if part["index"] == 0:
            if function.get("name"):
                shown["name"] = function["name"]
            arguments = function.get("arguments") or ""
            shown["arguments"] = shown.get("arguments", "") + arguments
    return {**rest, "function_call": shown} if shown else rest


def old_finish_reason(reason: str | None) -> str | None:
    """Return the old name of a finish reason."""
    return "function_call" if reason == "tool_calls" else reason
