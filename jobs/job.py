"""The job: what a client requested (`JobSpec`) and its live record (`Job`).

Invariant: a spec never changes after submit; everything that changes is in other fields of the
record, which only the scripts write.
"""

from dataclasses import dataclass, field
from dataclasses import fields as dataclass_fields
from typing import Any, Literal, NamedTuple

import orjson

from core.tracing import parse
from jobs.fairness import ServiceTier
from jobs.status import Status

OnDisconnect = Literal["continue", "cancel"]


class JobWebhook(NamedTuple):
    """A URL that is told when a job ends; without `events`, of every end."""

    url: str
    events: tuple[str, ...] = ()

    def wants(self, event: str) -> bool:
        """Return whether this event is sent."""
        return not self.events or event in self.events


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What the client requested. Times are Unix milliseconds.

    Attributes:
        response: For jobs of the Responses API only: fields of its object beyond the body.
        quiet: No webhook is sent for this job, because it belongs to a batch.
        functions: The client sent OpenAI's old `functions`, and reads calls as `function_call`.
    """

    url: str
    body: dict[str, Any]
    service_tier: ServiceTier = ServiceTier.DEFAULT
    metadata: dict[str, str] = field(default_factory=dict)
    webhook: str | None = None
    webhook_events: tuple[str, ...] = ()
    on_disconnect: OnDisconnect = "continue"
    retry_of: str | None = None
    request_id: str | None = None
    response: dict[str, Any] | None = None
    traceparent: str | None = None
    quiet: bool = False
    functions: bool = False

    def encode(self) -> bytes:
        """Return the JSON kept in the record; the body, which can be large, is kept apart."""
        fields: dict[str, Any] = {
            "url": self.url,
            "service_tier": self.service_tier,
            "metadata": self.metadata,
            "webhook": self.webhook,
            "webhook_events": self.webhook_events,
            "on_disconnect": self.on_disconnect,
            "retry_of": self.retry_of,
            "request_id": self.request_id,
        }
        if self.response is not None:
            fields["response"] = self.response
        if self.quiet:
            fields["quiet"] = True
        if self.functions:
            fields["functions"] = True
        if self.traceparent is not None:
            fields["traceparent"] = self.traceparent
        return orjson.dumps(fields)

    @property
    def trace_id(self) -> str | None:
        """The trace in which the job was submitted; None if it is not traced."""
        found = parse(self.traceparent) if self.traceparent else None
        return None if found is None else found.context.trace

    @property
    def keeps_body(self) -> bool:
        """Whether the client wants the conversation kept as long as the answer."""
        return self.response is not None and bool(self.response["store"])

    @classmethod
    def decode(cls, raw: bytes, body: bytes) -> "JobSpec":
        """Read the JSON kept in the record; unknown fields of a newer API are ignored.

        Otherwise a worker would fail at the first job during a rolling upgrade.
        """
        fields = orjson.loads(raw)
        for name in fields.keys() - KNOWN_FIELDS:
            del fields[name]
        tier = ServiceTier(fields.pop("service_tier"))
        events = tuple(fields.pop("webhook_events", ()))
        return cls(**fields, service_tier=tier, webhook_events=events, body=orjson.loads(body))


KNOWN_FIELDS = frozenset(item.name for item in dataclass_fields(JobSpec))

#: Fields of a job in lists: all but the body.
LISTED_FIELDS = (
    *("spec", "account", "queue", "status", "created", "queued", "started", "claimed", "finished"),
    *("attempt", "failures", "fence", "seq", "input", "cached", "output", "run_ms"),
    *("start_by", "deadline", "cancel", "worker", "error", "weights", "vectors"),
)


class Job(NamedTuple):
    """One job's record as read from Redis. Times are Unix milliseconds, 0 when not reached.

    In lists the spec's body is empty. `weights` is the digest of the weights of its last attempt,
    empty before the first one. `vectors` counts the delivered vectors of an embedding request.
    """

    id: str
    account: str
    queue: str
    spec: JobSpec
    status: Status
    created: int
    queued: int
    started: int
    claimed: int
    finished: int
    attempt: int
    failures: int
    fence: int
    seq: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    run_ms: int
    start_by: int
    deadline: int
    cancel_requested: int
    worker: str
    error: dict[str, Any] | None
    weights: str = ""
    vectors: int = 0

    @property
    def queue_ms(self) -> int | None:
        """Milliseconds from submit to first start, once started."""
        return self.started - self.created if self.started else None

    @classmethod
    def from_hash(cls, job_id: str, raw: dict[bytes, bytes]) -> "Job":
        """Read the Redis hash."""

        def text(name: bytes) -> str:
            return raw.get(name, b"").decode()

        def number(name: bytes) -> int:
            return int(raw.get(name) or 0)

        return cls(
            id=job_id,
            account=text(b"account"),
            queue=text(b"queue"),
            spec=JobSpec.decode(raw[b"spec"], raw.get(b"body") or b"{}"),
            status=Status(text(b"status")),
            created=number(b"created"),
            queued=number(b"queued"),
            started=number(b"started"),
            claimed=number(b"claimed"),
            finished=number(b"finished"),
            attempt=number(b"attempt"),
            failures=number(b"failures"),
            fence=number(b"fence"),
            seq=number(b"seq"),
            input_tokens=number(b"input"),
            cached_input_tokens=number(b"cached"),
            output_tokens=number(b"output"),
            run_ms=number(b"run_ms"),
            start_by=number(b"start_by"),
            deadline=number(b"deadline"),
            cancel_requested=number(b"cancel"),
            worker=text(b"worker"),
            error=orjson.loads(raw[b"error"]) if raw.get(b"error") else None,
            weights=text(b"weights"),
            vectors=number(b"vectors"),
        )
