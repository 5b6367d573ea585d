"""The job object, and a job's own event stream."""

from collections.abc import Sequence
from typing import Any

import orjson

from billing.pricing.cost_cache import JobCost
from billing.pricing.rating import Cost
from jobs.eta import Eta
from jobs.events import Event, EventType
from jobs.job import Job, JobSpec
from jobs.result import JobResult
from jobs.status import Status
from jobs.store.transitions import QueuePlace
from wire.error_bodies import Problem, from_ending
from wire.sse import PING, frame
from wire.views.chat import chat_completion
from wire.views.chunks import CompletionHead
from wire.views.completion import completion
from wire.views.cost import CostLookup, cost_object, no_cost
from wire.views.embeddings import embeddings
from wire.views.response import whole_response

UNKNOWN_PLACE = QueuePlace(None, None)


def result_object(job: Job, result: JobResult, cost: Cost | None = None) -> dict[str, Any]:
    """Build the OpenAI object that a completed job produced.

    Args:
        job: The job; its URL selects the kind of object.
        result: The job's output.
        cost: What the job cost; the object shows no cost without it.
    """
    if job.spec.response is not None:
        return whole_response(job, result, cost)
    if job.spec.url == "/v1/embeddings":
        return embeddings(job, result, cost)
    chat = job.spec.url == "/v1/chat/completions"
    return (chat_completion if chat else completion)(CompletionHead.of(job), result, cost)


def job_object(
    job: Job, cost: JobCost, place: QueuePlace = UNKNOWN_PLACE, result: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Build the job object; times are Unix seconds, null when not reached.

    Args:
        job: The record to show.
        cost: The job's cost so far, with a note when there is none.
        place: Position in the queue and ETA, for a job that has not ended.
        result: The OpenAI object, for a completed job.
    """
    spec = job.spec
    fields = {
        "id": job.id,
        "object": "job",
        "status": job.status,
        "url": spec.url,
        "model": job.queue,
        "service_tier": spec.service_tier,
        "created_at": _seconds(job.created),
        "started_at": _seconds(job.started),
        "completed_at": _seconds(job.finished),
        "queue_position": place.position,
        "eta": _eta(place.eta),
        "eta_note": place.no_eta,
        "attempt": job.attempt,
        "weights": job.weights or None,
        "queue_seconds": None if job.queue_ms is None else job.queue_ms / 1000,
        "run_seconds": (job.run_ms + place.run_ms) / 1000 if job.started else None,
        "usage": {
            "input_tokens": job.input_tokens,
            "cached_input_tokens": job.cached_input_tokens,
            "output_tokens": job.output_tokens,
        },
        "cost": cost_object(cost.cost),
        "cost_note": cost.note,
        "error": _error(job),
        "cancel_requested_at": _seconds(job.cancel_requested),
        "metadata": spec.metadata,
        "retry_of": spec.retry_of,
        "trace_id": spec.trace_id,
        "webhook": _webhook(spec),
        "on_disconnect": spec.on_disconnect,
        "deadline": _seconds(job.deadline),
        "start_by": _seconds(job.start_by),
        "urls": job_urls(job.id),
    }
    if result is not None:
        fields["result"] = result
    return fields


def job_urls(job_id: str) -> dict[str, str]:
    """Return the paths of a job's own routes."""
    path = f"/v1/jobs/{job_id}"
    return {
        "self": path,
        "cancel": f"{path}/cancel",
        "stream": f"{path}/stream",
        "result": f"{path}/result",
    }


def _seconds(milliseconds: int) -> float | None:
    return milliseconds / 1000 if milliseconds else None


def _webhook(spec: JobSpec) -> dict[str, Any] | None:
    if spec.webhook is None:
        return None
    return {"url": spec.webhook, "events": list(spec.webhook_events)}


def _eta(eta: Eta | None) -> dict[str, float] | None:
    if eta is None:
        return None
    return {"seconds": round(eta.seconds, 3), "low": round(eta.low, 3), "high": round(eta.high, 3)}


def _error(job: Job) -> dict[str, Any] | None:
    if job.status in (Status.FAILED, Status.EXPIRED):
        return from_ending(job.status, job.error, job.id).as_problem()
    return None


class JobEvents:
    """Streams every event of a job's log with its number."""

    ping = PING
    gets_grace = False

    def __init__(
        self,
        job_id: str,
        find_cost: CostLookup = no_cost,
        preamble: bytes = b"",
        trace_id: str | None = None,
    ) -> None:
        self.ended = False
        self.preamble = preamble
        self._job_id = job_id
        self._trace_id = trace_id
        self._find_cost = find_cost

    def show(self, events: Sequence[Event]) -> bytes:
        """Encode a batch of events."""
        return b"".join([self._show(event) for event in events])

    def _show(self, event: Event) -> bytes:
        data = event.data
        if event.type == EventType.FINISHED:
            return self._finish(event)
        return frame(numbered(event.seq, data), event=event.type, seq=event.seq)

    def _finish(self, event: Event) -> bytes:
        """Encode the final event with error and cost as in the job object, then `done`."""
        self.ended = True
        data = event.decode()
        if data["error"] is not None:
            problem = from_ending(Status(data["status"]), data["error"], self._job_id)
            data["error"] = problem.as_problem()
        data["cost"] = cost_object(self._find_cost(data).cost)
        last = numbered(event.seq, orjson.dumps(data))
        return frame(last, event=event.type, seq=event.seq) + done_event(
            self._job_id, data["status"], self._trace_id
        )

    def fail(self, problem: Problem) -> bytes:
        """Encode an error that ends the stream; the client may resume."""
        return frame(orjson.dumps(problem.as_problem()), event=EventType.ERROR)


def done_event(job_id: str, status: str, trace_id: str | None) -> bytes:
    """Encode the last event of a stream: the client need not reconnect."""
    data = {"id": job_id, "status": status, "trace_id": trace_id}
    return frame(orjson.dumps(data), event=EventType.DONE)


def numbered(seq: int, data: bytes) -> bytes:
    """Add the event's number to its JSON object, without parsing it."""
    rest = data.lstrip()[1:]
    comma = b"" if rest.lstrip().startswith(b"}") else b","
    return b'{"sequence_number":%d%b%b' % (seq, comma, rest)
