"""Chat completions, complete or as a stream of chunks, built from a job's log."""

from collections.abc import Sequence
from typing import Any

from billing.pricing.rating import Cost
from jobs.result import JobResult, ResultChoice
from wire.views.chunks import (
    NO_OPTIONS,
    ChunkOptions,
    Chunks,
    CompletionHead,
    choice_fields,
    usage_object,
)
from wire.views.cost import CostLookup, no_cost
from wire.views.function_call import (
    old_finish_reason,
    with_function_call,
    with_function_call_piece,
)

TEXT_FIELDS = ("content", "refusal", "reasoning", "reasoning_content")


def chat_completion(
    head: CompletionHead, result: JobResult, cost: Cost | None = None
) -> dict[str, Any]:
    """Build the complete response of a completed job."""
    return {
        **head.fields("chatcmpl", "chat.completion"),
        "choices": [
            _choice(head, index, result.choices[index]) for index in sorted(result.choices)
        ],
        "usage": usage_object(result.usage, cost),
    }


def _choice(head: CompletionHead, index: int, choice: ResultChoice) -> dict[str, Any]:
    whole, logprobs = message(choice.deltas), _logprobs(choice.logprobs)
    if not head.functions:
        return choice_fields(index, choice, message=whole, logprobs=logprobs)
    old = choice_fields(index, choice, message=with_function_call(whole), logprobs=logprobs)
    return {**old, "finish_reason": old_finish_reason(choice.finish_reason)}


def message(deltas: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Build an assistant message from its deltas."""
    whole: dict[str, Any] = {"role": "assistant", "content": None, "refusal": None}
    texts: dict[str, list[str]] = {}
    calls: dict[int, dict[str, Any]] = {}
    for delta in deltas:
        for name in TEXT_FIELDS:
            if delta.get(name):
                texts.setdefault(name, []).append(delta[name])
        for part in delta.get("tool_calls") or ():
            _add_call(calls, part)
    whole.update({name: "".join(parts) for name, parts in texts.items()})
    if calls:
        whole["tool_calls"] = [calls[index] for index in sorted(calls)]
    elif whole["content"] is None:
        whole["content"] = ""
    return whole


def _add_call(calls: dict[int, dict[str, Any]], part: dict[str, Any]) -> None:
    """Add a piece of a tool call: id and name arrive once, arguments in pieces."""
    call = calls.setdefault(
        part["index"],
        {"id": None, "type": "function", "function": {"name": None, "arguments": ""}},
    )
    call["id"] = part.get("id") or call["id"]
    call["type"] = part.get("type") or call["type"]
    function, piece = call["function"], part.get("function") or {}
    function["name"] = piece.get("name") or function["name"]
    function["arguments"] += piece.get("arguments") or ""


def _logprobs(pieces: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    if not pieces:
        return None
    return {"content": [item for piece in pieces for item in piece.get("content") or ()]}


class ChatChunks(Chunks):
    """Streams a chat completion; the first chunk of each choice has the role."""

    prefix = "chatcmpl"
    kind = "chat.completion.chunk"

    def __init__(
        self,
        head: CompletionHead,
        options: ChunkOptions = NO_OPTIONS,
        find_cost: CostLookup = no_cost,
    ) -> None:
        super().__init__(head, options, find_cost)
        self._started: set[int] = set()
        self._functions = head.functions

    def _show_delta(self, out: list[bytes], seq: int, data: dict[str, Any]) -> None:
        index, text = data["index"], data["text"]
        delta = data.get("delta")
        if delta is None:
            delta = {"content": text} if text else {}
        reason, logprobs = data.get("finish_reason"), data.get("logprobs")
        if self._functions:
            delta, reason = with_function_call_piece(delta), old_finish_reason(reason)
        if not delta and reason is None and logprobs is None:
            return
        self._content = self._content or bool(delta)
        if index not in self._started:
            self._started.add(index)
            first = {"role": "assistant", "content": ""}
            self._add(out, {"index": index, "delta": first, "finish_reason": None}, None)
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        if data.get("stop_reason") is not None:
            choice["stop_reason"] = data["stop_reason"]
        self._add(out, choice, seq)
