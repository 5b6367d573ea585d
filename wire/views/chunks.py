"""Shared parts of chat and text completions: head, usage, and the stream of chunks."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import orjson

from billing.pricing.rating import Cost
from jobs.events import Event, EventType, Usage
from jobs.job import Job
from jobs.result import ResultChoice
from jobs.status import Status
from wire.error_bodies import Problem, from_ending, from_error
from wire.errors import Restarted
from wire.sse import PING, frame
from wire.views.cost import CostLookup, no_cost, usage_cost

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class ChunkOptions:
    """What the client asked of a stream of chunks.

    Attributes:
        usage: Whether a last chunk has the usage.
        running_usage: Whether every chunk has the usage so far.
        numbered: Whether each chunk that ends an event has its number as `id:`. OpenAI's streams
            have none, and some clients read nothing but `data:` lines.
    """

    usage: bool = False
    running_usage: bool = False
    numbered: bool = False


NO_OPTIONS = ChunkOptions()


@dataclass(frozen=True, slots=True)
class CompletionHead:
    """Fields that every response to one job starts with.

    `functions`: the client reads tool calls as OpenAI's old `function_call`.
    """

    job_id: str
    created: int
    model: str
    service_tier: str
    functions: bool = False

    @classmethod
    def of(cls, job: Job) -> "CompletionHead":
        """Take the fields from a job's record."""
        spec = job.spec
        created = job.created // 1000
        return cls(job.id, created, job.queue, spec.service_tier, spec.functions)

    def fields(self, prefix: str, kind: str) -> dict[str, Any]:
        """Return the fields for one kind of object, with `prefix` in its id."""
        return {
            "id": f"{prefix}-{self.job_id.removeprefix('job_')}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "service_tier": self.service_tier,
            "system_fingerprint": None,
        }


def usage_object(usage: Usage | None, cost: Cost | None = None) -> dict[str, Any] | None:
    """Return the usage object of OpenAI's completions, with the cost if it is known."""
    if usage is None:
        return None
    return {
        "prompt_tokens": usage["input_tokens"],
        "completion_tokens": usage["output_tokens"],
        "total_tokens": usage["input_tokens"] + usage["output_tokens"],
        "prompt_tokens_details": {"cached_tokens": usage["cached_input_tokens"]},
        **usage_cost(cost),
    }


class Chunks(ABC):
    """Streams a job's log as chunks; subclasses encode the deltas."""

    prefix: ClassVar[str]
    kind: ClassVar[str]
    ping = PING
    preamble = b""
    gets_grace = True

    def __init__(
        self,
        head: CompletionHead,
        options: ChunkOptions = NO_OPTIONS,
        find_cost: CostLookup = no_cost,
    ) -> None:
        self.ended = False
        self._job_id = head.job_id
        self._fields = head.fields(self.prefix, self.kind)
        if options.usage:
            self._fields["usage"] = None
        self._options = options
        self._find_cost = find_cost
        self._content = False
        self._usage = Usage(input_tokens=0, cached_input_tokens=0, output_tokens=0)  # so far

    def show(self, events: Sequence[Event]) -> bytes:
        """Encode a batch of events."""
        out: list[bytes] = []
        for event in events:
            if event.type == EventType.DELTA:
                data = event.decode()
                self._count(data)
                self._show_delta(out, event.seq, data)
            elif event.type == EventType.RESTARTED and self._content:
                restarted = Restarted("the job was restarted: discard the output received so far")
                self._end(out, event.seq, from_error(restarted, job_id=self._job_id))
                break
            elif event.type == EventType.RESTARTED:
                self._usage["output_tokens"] = 0
            elif event.type == EventType.FINISHED:
                self._finish(out, event)
        return b"".join(out)

    def _count(self, data: dict[str, Any]) -> None:
        """Add a delta to the usage so far; the first one of an attempt has the prompt's length."""
        self._usage["input_tokens"] = data.get("input_tokens", self._usage["input_tokens"])
        self._usage["output_tokens"] += len(data["token_ids"])

    def fail(self, problem: Problem) -> bytes:
        """Encode an error that ends the stream."""
        return frame(orjson.dumps(problem.as_openai())) + DONE

    @abstractmethod
    def _show_delta(self, out: list[bytes], seq: int, data: dict[str, Any]) -> None:
        """Append the chunks of one delta to `out`; set `_content` once text was sent."""

    def _add(self, out: list[bytes], choice: dict[str, Any], seq: int | None) -> None:
        chunk = {**self._fields, "choices": [choice]}
        if self._options.running_usage:
            chunk["usage"] = usage_object(self._usage)
        out.append(frame(orjson.dumps(chunk), seq=self._id(seq)))

    def _id(self, seq: int | None) -> int | None:
        return seq if self._options.numbered else None

    def _end(self, out: list[bytes], seq: int, problem: Problem | None) -> None:
        self.ended = True
        if problem is not None:
            out.append(frame(orjson.dumps(problem.as_openai()), seq=self._id(seq)))
        out.append(DONE)

    def _finish(self, out: list[bytes], event: Event) -> None:
        data = event.decode()
        if data["status"] != Status.COMPLETED:
            problem = from_ending(Status(data["status"]), data["error"], self._job_id)
            self._end(out, event.seq, problem)
            return
        if self._options.usage:
            usage = usage_object(data["usage"], self._find_cost(data).cost)
            last = {**self._fields, "choices": [], "usage": usage}
            out.append(frame(orjson.dumps(last), seq=self._id(event.seq)))
        self._end(out, event.seq, None)


def choice_fields(index: int, choice: ResultChoice, **middle: Any) -> dict[str, Any]:
    """Return a complete choice, with vLLM's `stop_reason` if it has one."""
    fields = {"index": index, **middle, "finish_reason": choice.finish_reason}
    if choice.stop_reason is not None:
        fields["stop_reason"] = choice.stop_reason
    return fields
