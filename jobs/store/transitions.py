"""What the scripts are asked and answer: a job's way in, its attempts, its end.

Invariant: values only; nothing here knows Redis.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from core.errors import PipelineError
from jobs.eta import Eta
from jobs.job import JobSpec
from jobs.status import Status
from jobs.store.budget_reservations import BudgetReservation
from jobs.store.rate_limits import UNLIMITED, Quota, RateLimitStatus

Appended = Literal["ok", "watched", "cancel", "lost", "finished"]


class Lock(NamedTuple):
    """A lock, and the name of who believes to hold it."""

    what: str
    name: str


class Submission(NamedTuple):
    """A job on its way in. `account`'s limits come from its key, never from the body.

    With a `lock`, the job is accepted only while its holder has it.
    """

    id: str
    account: str
    queue: str
    spec: JobSpec
    key_id: str = ""
    weight: float = 1.0
    max_running: int = 0
    start_by: int | None = None
    deadline: int | None = None
    idempotency_key: str = ""
    watcher: str = ""
    hold: BudgetReservation | None = None
    quota: Quota = UNLIMITED
    lock: Lock | None = None


class AcceptedJob(NamedTuple):
    """The answer to a submit; `replayed` when the idempotency key was seen before.

    `created` is in Redis milliseconds, 0 when replayed.
    """

    id: str
    replayed: bool
    created: int = 0
    standings: Sequence[RateLimitStatus] = ()


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job that is now this worker's. `run_deadline` and `now` are Redis milliseconds."""

    id: str
    fence: int
    attempt: int
    spec: JobSpec
    seq: int
    output_tokens: int
    input_tokens: int | None
    watched: bool
    run_deadline: int
    now: int
    account: str
    created: int
    queued: int


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ends."""

    status: Status
    error: PipelineError | None = None


@dataclass(frozen=True, slots=True)
class LogAppend:
    """One job's part of a step: `events` follow seq `after`; `ending` closes the job."""

    id: str
    fence: int
    after: int
    events: Sequence[tuple[str, bytes]]
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    ending: Ending | None = None


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """Where a job stands in its queue (1 = next), when it should be done, how long it has run."""

    position: int | None
    eta: Eta | None
    run_ms: int = 0


class EndedJob(NamedTuple):
    """A job that is not open any more; `status` is empty where it has no record."""

    job_id: str
    status: str
    last_seq: int


@dataclass(frozen=True, slots=True)
class AbandonedAttempt:
    """An attempt that ended without its worker's word; times are Redis milliseconds."""

    id: str
    account: str
    spec: JobSpec
    fence: int
    attempt: int
    worker: str
    claimed: int
    now: int

    @classmethod
    def of(cls, row: Sequence[bytes]) -> "AbandonedAttempt":
        """Read the script's answer; the spec has no body."""
        job_id, account, spec, fence, attempt, worker, claimed, now = row
        numbers = (int(fence), int(attempt), worker.decode(), int(claimed), int(now))
        return cls(job_id.decode(), account.decode(), JobSpec.decode(spec, b"{}"), *numbers)


class SweepResult(NamedTuple):
    """What one sweep of one queue repaired."""

    stalled: int
    dead: int
    released: int
    expired: int
    tickets: int
    unparked: int
    abandoned: Sequence[AbandonedAttempt] = ()

    @property
    def counts(self) -> dict[str, int]:
        """How much of each kind was repaired."""
        found = self._asdict()
        del found["abandoned"]
        return found
