"""One attempt at one job, as the worker sees it: what is generated, written and still open.

Invariant: `pending` holds exactly the events that follow seq `written`; a token id enters it
once, in the order the engine reported it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from core.errors import AttemptError, PipelineError
from core.spans import Context
from jobs.events import EventType
from jobs.status import Status
from jobs.store.transitions import ClaimedJob, Ending, LogAppend
from workers.batcher import Acknowledgeable
from workers.engines.base import AcceptedGeneration, Generation, Output


@dataclass(slots=True)
class Delta:
    """A `delta` event not yet written; plain ones of the same choice can be merged."""

    output: Output
    token_ids: list[int]
    text: str

    @classmethod
    def of(cls, output: Output) -> "Delta":
        """Start from what the engine reported."""
        return cls(output, list(output.token_ids), output.text)

    def absorb(self, output: Output) -> bool:
        """Merge the next output of the same choice if nothing would be lost by it."""
        plain = self.output.delta is None and output.delta is None
        whole = self.output.logprobs is None and output.logprobs is None
        if not plain or not whole or self.output.index != output.index:
            return False
        self.output = output
        self.token_ids += output.token_ids
        self.text += output.text
        return True

    def encode(self) -> bytes:
        """Return the event's JSON (`jobs.events.DeltaData`)."""
        output = self.output
        data: dict[str, Any] = {
            "index": output.index,
            "token_ids": self.token_ids,
            "text": self.text,
        }
        if output.delta is not None:
            data["delta"] = output.delta
        if output.logprobs is not None:
            data["logprobs"] = output.logprobs
        if output.finish_reason is not None:
            data["finish_reason"] = output.finish_reason
            data["stop_reason"] = output.stop_reason
        return orjson.dumps(data)


@dataclass(slots=True)
class Attempt:
    """A claimed job while this worker has it."""

    claimed: ClaimedJob
    ticket: Acknowledgeable
    generation: Generation
    claimed_at: float
    written: int
    output_tokens: int
    watched: bool
    input_tokens: int = 0
    cached_input_tokens: int = 0
    accepted: AcceptedGeneration | None = None
    finished_choices: set[int] = field(default_factory=set)
    early: list[Output] = field(default_factory=list)
    pending: list[Delta | tuple[str, bytes]] = field(default_factory=list)
    pending_tokens: int = 0
    flushing: int = 0
    ending: Ending | None = None
    failure: AttemptError | None = None
    handing_over: bool = False
    failing: bool = False
    given_at: float | None = None
    accepted_at: float | None = None
    first_token_at: float | None = None
    trace: Context | None = None
    log: Any = None
    error: str = ""
    over: bool = False
    settled: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def id(self) -> str:
        """The job's id."""
        return self.claimed.id

    @property
    def ids(self) -> dict[str, str]:
        """What each line of the log about it carries."""
        spec = self.claimed.spec
        found = {"job_id": self.id, "account_id": self.claimed.account}
        if spec.request_id:
            found["request_id"] = spec.request_id
        return found if self.trace is None else {**found, "trace_id": self.trace.trace}

    @property
    def exemplar(self) -> dict[str, str] | None:
        """What ties a measurement of this run to its trace."""
        return None if self.trace is None else {"trace_id": self.trace.trace}

    @property
    def begun(self) -> bool:
        """Whether this attempt has written anything."""
        return self.written > self.claimed.seq

    @property
    def stopping(self) -> bool:
        """Whether what becomes of it is decided, so that further output is not wanted."""
        decided = self.ending is not None or self.failure is not None
        return self.over or decided or self.failing or self.handing_over

    @property
    def awaited_since(self) -> float | None:
        """Since when the engine owes it a step; None while it waits for something else: Redis."""
        return None if self.stopping else self.given_at

    def accept(self, accepted: AcceptedGeneration) -> None:
        """The engine has rendered the prompt."""
        self.accepted = accepted
        self.input_tokens = accepted.input_tokens
        if accepted.restarted:
            self.output_tokens = 0
            self.finished_choices.clear()
            self.pending.append((EventType.RESTARTED, b"{}"))
        early, self.early = self.early, []
        for output in early:
            self.take(output)
        self._complete()

    def take(self, output: Output) -> None:
        """Take what one step produced for one choice."""
        if self.accepted is None:
            self.early.append(output)
            return
        if output.error is not None:
            self.failure = output.error
            return
        if output.cached_input_tokens is not None:
            self.cached_input_tokens = max(self.cached_input_tokens, output.cached_input_tokens)
        self.output_tokens += len(output.token_ids)
        self.pending_tokens += len(output.token_ids)
        last = self.pending[-1] if len(self.pending) > self.flushing else None
        if not (isinstance(last, Delta) and last.absorb(output)):
            self.pending.append(Delta.of(output))
        if output.finish_reason is not None:
            self.finished_choices.add(output.index)
            self._complete()

    def _complete(self) -> None:
        if self.accepted is not None and len(self.finished_choices) >= self.accepted.choices:
            self.end(Status.COMPLETED)

    def end(self, status: Status, error: PipelineError | None = None) -> None:
        """Decide how the job ends; what is pending is still written."""
        if self.ending is None:
            self.ending = Ending(status, error)
            self.error = self.error or (error.code if error else "")

    def next_append(self) -> LogAppend:
        """Return what to write now; repeats itself until `wrote` is called."""
        self.flushing = len(self.pending)
        return LogAppend(
            id=self.id,
            fence=self.claimed.fence,
            after=self.written,
            events=self._encoded(),
            input_tokens=self.input_tokens,
            cached_input_tokens=self.cached_input_tokens,
            output_tokens=self.output_tokens,
            ending=self.ending,
        )

    def wrote(self, count: int) -> None:
        """The first `count` pending events stand in the log."""
        del self.pending[:count]
        self.flushing = 0
        self.written += count
        self.pending_tokens = 0
        if not self.pending:
            self.settled.set()

    def _encoded(self) -> Sequence[tuple[str, bytes]]:
        return [
            (EventType.DELTA, item.encode()) if isinstance(item, Delta) else item
            for item in self.pending
        ]
