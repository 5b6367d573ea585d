"""Folds a job's log into its result, choice by choice.

Invariant: pure and incremental. Folding a log in any pieces gives the same result, and
`restarted` discards what came before it.
"""

from dataclasses import dataclass, field
from typing import Any

import orjson

from jobs.events import Event, EventType, Usage


@dataclass(slots=True)
class ResultChoice:
    """The result of one choice so far. `deltas` are OpenAI chat deltas beyond plain text."""

    chunks: list[tuple[int, ...]] = field(default_factory=list)
    text: list[str] = field(default_factory=list)
    deltas: list[dict[str, Any]] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: str | int | None = None

    @property
    def token_count(self) -> int:
        """Number of tokens generated."""
        return sum(len(chunk) for chunk in self.chunks)


@dataclass(slots=True)
class JobResult:
    """The result of a job so far."""

    choices: dict[int, ResultChoice] = field(default_factory=dict)
    status: str | None = None
    usage: Usage | None = None
    error: dict[str, Any] | None = None
    finished_at: float | None = None
    #: The digest of the weights that generated it, as the log says; empty if it does not.
    weights: str = ""

    @property
    def output_tokens(self) -> int:
        """Number of tokens generated, over all choices."""
        return sum(choice.token_count for choice in self.choices.values())

    def encode(self) -> bytes:
        """Return the JSON kept in the archive; `status` and `error` are in the job's record."""
        choices = [
            [
                index,
                [token for chunk in choice.chunks for token in chunk],
                "".join(choice.text),
                _joined(choice.deltas),
                choice.logprobs,
                choice.finish_reason,
                choice.stop_reason,
            ]
            for index, choice in sorted(self.choices.items())
        ]
        return orjson.dumps({"choices": choices, "usage": self.usage})

    @classmethod
    def decode(cls, raw: bytes) -> "JobResult":
        """Read the JSON kept in the archive."""
        kept = orjson.loads(raw)
        result = cls(usage=kept["usage"])
        for index, token_ids, text, deltas, logprobs, finish_reason, stop_reason in kept["choices"]:
            result.choices[index] = ResultChoice(
                [tuple(token_ids)] if token_ids else [],
                [text] if text else [],
                deltas,
                logprobs,
                finish_reason,
                stop_reason,
            )
        return result

    def add(self, event: Event) -> None:
        """Add the next event of the log."""
        if event.type == EventType.DELTA:
            self._add_delta(event.decode())
        elif event.type == EventType.RESTARTED:
            self.choices.clear()
        elif event.type == EventType.FINISHED:
            data = event.decode()
            self.status, self.usage, self.error = data["status"], data["usage"], data["error"]
            self.finished_at = data["finished_at"]

    def _add_delta(self, data: dict[str, Any]) -> None:
        self.weights = data.get("weights", self.weights)
        choice = self.choices.setdefault(data["index"], ResultChoice())
        if data["token_ids"]:
            choice.chunks.append(tuple(data["token_ids"]))
        if data.get("delta") is not None:
            choice.deltas.append(data["delta"])
        elif data["text"]:
            choice.deltas.append({"content": data["text"]})
        if data["text"]:
            choice.text.append(data["text"])
        if data.get("logprobs") is not None:
            choice.logprobs.append(data["logprobs"])
        if data.get("finish_reason") is not None:
            choice.finish_reason = data["finish_reason"]
            choice.stop_reason = data.get("stop_reason")


def _joined(deltas: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join neighbouring deltas of plain content; the message stays the same."""
    joined: list[dict[str, Any]] = []
    pieces: list[str] = []
    for delta in [*deltas, {}]:
        if list(delta) == ["content"]:
            pieces.append(delta["content"])
            continue
        if pieces:
            joined.append({"content": "".join(pieces)})
            pieces = []
        if delta:
            joined.append(delta)
    return joined


def fold(events: list[Event]) -> JobResult:
    """Fold a whole log."""
    result = JobResult()
    for event in events:
        result.add(event)
    return result
