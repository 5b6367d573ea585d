"""What the job scripts return, in the order of each script.

Invariant: a row is built from the whole answer, so a script that returns more or fewer items
fails loudly. Instants (`now`, `created`, ...) are Unix milliseconds of Redis's clock.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, NamedTuple


class SubmitOutcome(StrEnum):
    """The first item of what `submit.lua` returns."""

    ACCEPTED = "accepted"
    REPLAYED = "replayed"
    MISMATCH = "mismatch"
    LOCK_LOST = "lock-lost"
    PAST = "past"
    QUEUE_DRAINING = "draining"
    QUEUE_FULL = "queue-full"
    ACCOUNT_FULL = "account-full"
    KEY_FULL = "key-full"
    LONG_WAIT = "long-wait"
    RATE_LIMITED = "rate-limited"
    FAILING = "failing"
    OVER_BUDGET = "over-budget"
    SPENDING_UNKNOWN = "spending-unknown"
    NO_TOKENISER = "no-tokeniser"  # of `tokenise.lua`, which has some of the others, too


class RetirementState(StrEnum):
    """The first item of what `retire.lua` returns."""

    RETIRED = "retired"
    RETIRING = "retiring"
    MODEL_BUSY = "busy"
    SERVED = "served"
    UNKNOWN_MODEL = "unknown"


class RetirementRow(NamedTuple):
    """Where a model's retirement stands, its jobs and its workers."""

    state: RetirementState
    waiting: int
    running: int
    workers: int

    @classmethod
    def of(cls, answer: Sequence[Any]) -> "RetirementRow":
        """Read the answer of `retire.lua`."""
        state, *counts = answer
        return cls(RetirementState(state.decode()), *counts)


class ClaimedRow(NamedTuple):
    """A claimed job; `watched` is `1` or `0`, `input_tokens` empty before the first step."""

    id: bytes
    fence: bytes
    attempt: bytes
    spec: bytes
    seq: bytes
    output_tokens: bytes
    input_tokens: bytes
    watched: bytes
    run_deadline: bytes
    now: bytes
    account: bytes
    created: bytes
    body: bytes
    queued: bytes
    apart: bytes


class AbandonedRow(NamedTuple):
    """An attempt that ended without a word of its worker."""

    id: bytes
    account: bytes
    spec: bytes
    fence: bytes
    attempt: bytes
    worker: bytes
    claimed: bytes
    now: bytes


class WatchedRow(NamedTuple):
    """The job that is watched now."""

    status: bytes
    seq: bytes


class ModeRow(NamedTuple):
    """A queue's mode; `parked` are accounts and groups with parked jobs, `known` is 1 or 0."""

    mode: bytes
    set_by: bytes
    since: bytes
    parked: list[bytes]
    known: int


class ModeChangeRow(NamedTuple):
    """A queue's mode before a change and after it."""

    before: bytes
    now: bytes


class WaitingSliceRow(NamedTuple):
    """What was done to one slice of the waiting jobs."""

    looked_at: int
    left_waiting: int
    ended: int
    now: bytes


class ObservedRow(NamedTuple):
    """A queue's figures; (ready, oldest ms or -1) per tier follow."""

    running: int
    delayed: int
    parked: int
    apart: int
    workers: int
    slots: int
    tickets: int
    loading: int
    mode: bytes


class PositionRow(NamedTuple):
    """Jobs before this one (-1: it is not ready), and the queue's service times in ms."""

    rank: int
    running: int
    slots: int
    finished: bytes
    mean: bytes
    square: bytes
    now: bytes
    mode: bytes


class EndedRow(NamedTuple):
    """A job that is not open; `status` is empty where it has no record."""

    job_id: bytes
    status: bytes
    last_seq: bytes


class SweptReservationsRow(NamedTuple):
    """Where to go on ("0": at the beginning), and how many reservations were released."""

    cursor: bytes
    released: int
