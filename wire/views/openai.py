"""What OpenAI's answers have in common: head, usage, errors in a stream."""

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
from wire.errors import Restarted
from wire.problems import Problem, from_ending, from_error
from wire.sse import frame
from wire.views.cost import Billing, cost_object, unbilled

DONE = b"data: [DONE]\n\n"

#: No blank line after it: OpenAI's client takes `: ping` + blank line for an event without data
#: once it has seen an `id:`, and fails to parse it.
PING = b": ping\n"


@dataclass(frozen=True, slots=True)
class Head:
    """The fields every answer to one job starts with."""

    job_id: str
    created: int
    model: str
    service_tier: str

    @classmethod
    def of(cls, job: Job) -> "Head":
        """Return the head of a job's answers."""
        return cls(job.id, job.created // 1000, job.queue, job.spec.service_tier)

    def fields(self, prefix: str, kind: str) -> dict[str, Any]:
        """Return id, object, created, model, service tier."""
        return {
            "id": f"{prefix}-{self.job_id.removeprefix('job_')}",
            "object": kind,
            "created": self.created,
            "model": self.model,
            "service_tier": self.service_tier,
            "system_fingerprint": None,
        }


def usage_object(usage: Usage | None, cost: Cost | None = None) -> dict[str, Any] | None:
    """Return usage as OpenAI counts it, and what it cost where that is known."""
    if usage is None:
        return None
    shown = {
        "prompt_tokens": usage["input_tokens"],
        "completion_tokens": usage["output_tokens"],
        "total_tokens": usage["input_tokens"] + usage["output_tokens"],
        "prompt_tokens_details": {"cached_tokens": usage["cached_input_tokens"]},
    }
    if cost is not None:
        shown["cost"] = cost_object(cost)
    return shown


class Chunks(ABC):
    """A stream of chunks; what a delta looks like is up to the route."""

    prefix: ClassVar[str]
    kind: ClassVar[str]
    ping = PING
    opening = b""
    patient = True

    def __init__(self, head: Head, *, include_usage: bool, bill: Billing = unbilled) -> None:
        self.ended = False
        self._job_id = head.job_id
        self._fields = head.fields(self.prefix, self.kind)
        if include_usage:
            self._fields["usage"] = None
        self._include_usage = include_usage
        self._bill = bill
        self._content = False

    def show(self, events: Sequence[Event]) -> bytes:
        """Return a batch of events in wire form."""
        out: list[bytes] = []
        for event in events:
            if event.type == EventType.DELTA:
                self._show_delta(out, event.seq, event.decode())
            elif event.type == EventType.RESTARTED and self._content:
                restarted = Restarted("the answer began anew: discard what was received")
                self._end(out, event.seq, from_error(restarted, job_id=self._job_id))
                break
            elif event.type == EventType.FINISHED:
                self._finish(out, event)
        return b"".join(out)

    def fail(self, problem: Problem) -> bytes:
        """Return what tells the client that the stream ends here."""
        return frame(orjson.dumps(problem.as_openai())) + DONE

    @abstractmethod
    def _show_delta(self, out: list[bytes], seq: int, data: dict[str, Any]) -> None:
        """Add the chunks of one delta, and note whether there was content."""

    def _add(self, out: list[bytes], choice: dict[str, Any], seq: int | None) -> None:
        out.append(frame(orjson.dumps({**self._fields, "choices": [choice]}), seq=seq))

    def _end(self, out: list[bytes], seq: int, problem: Problem | None) -> None:
        self.ended = True
        if problem is not None:
            out.append(frame(orjson.dumps(problem.as_openai()), seq=seq))
        out.append(DONE)

    def _finish(self, out: list[bytes], event: Event) -> None:
        data = event.decode()
        if data["status"] != Status.COMPLETED:
            problem = from_ending(Status(data["status"]), data["error"], self._job_id)
            self._end(out, event.seq, problem)
            return
        if self._include_usage:
            usage = usage_object(data["usage"], self._bill(data).cost)
            last = {**self._fields, "choices": [], "usage": usage}
            out.append(frame(orjson.dumps(last), seq=event.seq))
        self._end(out, event.seq, None)


def choice_fields(index: int, choice: ResultChoice, **middle: Any) -> dict[str, Any]:
    """Return a whole choice; vLLM's `stop_reason` only where there is one."""
    fields = {"index": index, **middle, "finish_reason": choice.finish_reason}
    if choice.stop_reason is not None:
        fields["stop_reason"] = choice.stop_reason
    return fields
