"""Values of the job store's calls: submission, claimed job, step, end, sweep result.

Invariant: values only; nothing here knows Redis.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from core.errors import PipelineError
from jobs.blame import Apart, Occupancy
from jobs.eta import Eta, NoEta
from jobs.job import JobSpec
from jobs.status import Status
from jobs.store.budget_reservations import BudgetReservation
from jobs.store.rate_limits import UNLIMITED, Quota, RateLimitStatus
from jobs.store.script_rows import AbandonedRow

Appended = Literal["ok", "watched", "cancel", "lost", "finished"]


class Lock(NamedTuple):
    """A lock, and the process that expects to hold it."""

    name: str
    holder: str


#: The lock of a submission that needs none.
NO_LOCK = Lock("", "")


class Submission(NamedTuple):
    """A job to be accepted. Limits come from the caller's record, never from the body.

    Attributes:
        budget_key: The key whose budget pays, which a rotation of `key_id` keeps.
        weight: The account's share in fair queueing.
        max_running: Most jobs of the account that run at a time, 0 for no cap.
        start_by: Unix milliseconds until which the job must have started.
        deadline: Unix milliseconds until which it must have ended.
        watcher: The event hub to which the job's events are published, or empty.
        reservation: Money that the job may cost, where a budget is kept.
        lock: With a lock, the job is accepted only while the lock's holder has it.
        requested: The body with the URLs of its media, where the spec's has what was fetched.
    """

    id: str
    account: str
    queue: str
    spec: JobSpec
    key_id: str = ""
    budget_key: str = ""
    weight: float = 1.0
    max_running: int = 0
    start_by: int | None = None
    deadline: int | None = None
    idempotency_key: str = ""
    watcher: str = ""
    reservation: BudgetReservation | None = None
    quota: Quota = UNLIMITED
    lock: Lock | None = None
    requested: dict[str, Any] | None = None


class AcceptedJob(NamedTuple):
    """The answer to a submit; `replayed` when the idempotency key was seen before.

    `created` is in Redis milliseconds, 0 when replayed.
    """

    id: str
    replayed: bool
    created: int = 0
    rate_limits: Sequence[RateLimitStatus] = ()


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
    apart: Apart = Apart.NONE


class Claim(NamedTuple):
    """The answer to a claim.

    Attributes:
        jobs: The claimed jobs.
        held: Set if the worker must claim nothing for now, because a suspected job waits for it:
            what it may run at most when that job comes.
    """

    jobs: Sequence[ClaimedJob]
    held: Occupancy | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ends."""

    status: Status
    error: PipelineError | None = None


@dataclass(frozen=True, slots=True)
class LogAppend:
    """One job's part of a step: `events` follow seq `after`; `ending` closes the job.

    `vectors` is how many inputs of an embedding request have their vector in the log.
    """

    id: str
    fence: int
    after: int
    events: Sequence[tuple[str, bytes]]
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    ending: Ending | None = None
    vectors: int = 0


@dataclass(frozen=True, slots=True)
class QueuePlace:
    """A job's position in its queue (1 = next), its estimated end, and how long it has run.

    `no_eta` says why an open job has no estimate.
    """

    position: int | None
    eta: Eta | None
    run_ms: int = 0
    no_eta: NoEta | None = None


class EndedJob(NamedTuple):
    """A job that has ended; `status` is empty where it has no record."""

    job_id: str
    status: str
    last_seq: int


@dataclass(frozen=True, slots=True)
class AbandonedAttempt:
    """An attempt whose worker did not report its end; times are Redis milliseconds."""

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
        named = AbandonedRow(*row)
        return cls(
            id=named.id.decode(),
            account=named.account.decode(),
            spec=JobSpec.decode(named.spec, b"{}"),
            fence=int(named.fence),
            attempt=int(named.attempt),
            worker=named.worker.decode(),
            claimed=int(named.claimed),
            now=int(named.now),
        )


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
        """How many of each kind were repaired."""
        found = self._asdict()
        del found["abandoned"]
        return found
