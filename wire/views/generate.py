"""Responses of the generate routes, built from a text completion's log."""

import time
from collections.abc import Sequence
from typing import Any

import orjson

from billing.pricing.rating import Cost
from jobs.events import Event, EventType
from jobs.result import JobResult, ResultChoice
from jobs.status import Status
from wire.error_bodies import Problem, from_ending
from wire.sse import PING, frame
from wire.views.chunks import usage_object
from wire.views.cost import CostLookup, no_cost


def generated(
    prompt: str,
    result: JobResult,
    started: float,
    cost: Cost | None = None,
    trace_id: str | None = None,
) -> dict[str, Any]:
    """Build the complete response.

    Args:
        prompt: The client's prompt.
        result: The result of the completion job.
        started: `time.monotonic()` at the start of the request, for the latency.
        cost: What the job cost, if it is known.
        trace_id: The trace in which the job was submitted, if it is traced.
    """
    choice = result.choices.get(0) or ResultChoice()
    return {
        "generated_text": "".join(choice.text),
        "prompt": prompt,
        "finish_reason": choice.finish_reason,
        "tokens_generated": _tokens(result),
        "latency_ms": _milliseconds_since(started),
        "usage": usage_object(result.usage, cost),
        "trace_id": trace_id,
    }


def _tokens(result: JobResult) -> int:
    if result.usage is not None:
        return result.usage["output_tokens"]
    return sum(choice.token_count for choice in result.choices.values())


def _milliseconds_since(started: float) -> float:
    return round((time.monotonic() - started) * 1000, 3)


class GenerateEvents:
    """Streams text as it is generated, then one `done` event with the totals and the cost."""

    ping = PING
    preamble = b""
    gets_grace = True

    def __init__(
        self,
        job_id: str,
        started: float,
        find_cost: CostLookup = no_cost,
        trace_id: str | None = None,
    ) -> None:
        self.ended = False
        self._job_id = job_id
        self._started = started
        self._find_cost = find_cost
        self._trace_id = trace_id
        self._reason: str | None = None

    def show(self, events: Sequence[Event]) -> bytes:
        """Encode a batch of events."""
        return b"".join([self._show(event) for event in events])

    def _show(self, event: Event) -> bytes:
        if event.type == EventType.DELTA:
            return self._delta(event)
        if event.type == EventType.RESTARTED:
            data = {"sequence_number": event.seq}
            return frame(orjson.dumps(data), event=event.type, seq=event.seq)
        if event.type == EventType.FINISHED:
            return self._finish(event)
        return b""

    def _delta(self, event: Event) -> bytes:
        data = event.decode()
        self._reason = data.get("finish_reason") or self._reason
        if not data["text"]:
            return b""
        shown = {"text": data["text"], "sequence_number": event.seq}
        return frame(orjson.dumps(shown), seq=event.seq)

    def _finish(self, event: Event) -> bytes:
        self.ended = True
        data = event.decode()
        if data["status"] != Status.COMPLETED:
            return self.fail(from_ending(Status(data["status"]), data["error"], self._job_id))
        totals = {
            "job_id": self._job_id,
            "finish_reason": self._reason,
            "tokens_generated": data["usage"]["output_tokens"],
            "latency_ms": _milliseconds_since(self._started),
            "usage": usage_object(data["usage"], self._find_cost(data).cost),
            "trace_id": self._trace_id,
            "sequence_number": event.seq,
        }
        return frame(orjson.dumps(totals), event=EventType.DONE, seq=event.seq)

    def fail(self, problem: Problem) -> bytes:
        """Encode an error that ends the stream."""
        return frame(orjson.dumps(problem.as_problem()), event=EventType.ERROR)
