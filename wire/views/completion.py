"""Text completions, complete or as a stream of chunks, built from a job's log."""

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

#: Stands for the prompt where the client did not ask to see it.
NO_PROMPT: dict[str, Any] = {"text": "", "logprobs": None}


def completion(head: CompletionHead, result: JobResult, cost: Cost | None = None) -> dict[str, Any]:
    """Build the complete response of a completed job."""
    return {
        **head.fields("cmpl", "text_completion"),
        "choices": [_choice(index, result.choices[index]) for index in sorted(result.choices)],
        "usage": usage_object(result.usage, cost),
    }


def _choice(index: int, choice: ResultChoice) -> dict[str, Any]:
    prompt = next((delta["prompt"] for delta in choice.deltas if "prompt" in delta), NO_PROMPT)
    text = prompt["text"] + "".join(choice.text)
    logprobs = _logprobs([prompt["logprobs"], *choice.logprobs])
    return choice_fields(index, choice, text=text, logprobs=logprobs)


def _logprobs(given: Sequence[dict[str, Any] | None]) -> dict[str, Any] | None:
    """Join the pieces' parallel lists; other values are taken from the first piece."""
    pieces = [piece for piece in given if piece is not None]
    if not pieces:
        return None
    whole: dict[str, Any] = {}
    for piece in pieces:
        for name, values in piece.items():
            if isinstance(values, list):
                whole.setdefault(name, []).extend(values)
            else:
                whole.setdefault(name, values)
    return whole


class CompletionChunks(Chunks):
    """Streams a text completion."""

    prefix = "cmpl"
    kind = "text_completion"

    def __init__(
        self,
        head: CompletionHead,
        options: ChunkOptions = NO_OPTIONS,
        find_cost: CostLookup = no_cost,
    ) -> None:
        super().__init__(head, options, find_cost)
        self._echoed: set[int] = set()

    def _show_delta(self, out: list[bytes], seq: int, data: dict[str, Any]) -> None:
        text, reason, logprobs = data["text"], data.get("finish_reason"), data.get("logprobs")
        if (prompt := (data.get("delta") or {}).get("prompt")) is not None:
            if data["index"] not in self._echoed:
                text = prompt["text"] + text
                logprobs = _logprobs([prompt["logprobs"], logprobs])
            elif not data["token_ids"]:
                return  # a repeated attempt shows it again
            self._echoed.add(data["index"])
        if not text and reason is None and logprobs is None:
            return
        self._content = self._content or bool(text)
        choice = {
            "index": data["index"],
            "text": text,
            "logprobs": logprobs,
            "finish_reason": reason,
        }
        if data.get("stop_reason") is not None:
            choice["stop_reason"] = data["stop_reason"]
        self._add(out, choice, seq)
