"""Turns the answer of a refused submission into an error that says why and when to retry.

Where `retry_after_seconds` comes from: `scripts/submit.lua` computes the wait of a rate limit,
`failure_wait` in `scripts/lib.lua` that of an account whose jobs keep failing, `load_shedding.py`
that of a full queue; the others are constants here. `wire/error_bodies.py` rounds it up to whole
seconds for the Retry-After header.
"""

from collections.abc import Sequence
from typing import NoReturn

from core import metrics
from core.errors import (
    BudgetExceeded,
    IdempotencyMismatch,
    InvalidJob,
    LimitTooSmall,
    LockLost,
    QueueDraining,
    QueueFull,
    RateLimited,
    SpendingUnknown,
    TooManyFailures,
    WaitTooLong,
)
from jobs.fairness import ServiceTier
from jobs.store.budget_reservations import ACCOUNT, BudgetReservation, from_nanos
from jobs.store.rate_limits import Quota, rate_limit_statuses
from jobs.store.script_rows import SubmitOutcome
from jobs.store.transitions import Submission

#: Retry-After in seconds while an operator drains the queue.
DRAINING_SECONDS = 30.0

#: Outcomes for lack of room, and the labels of the metric: the limit, and what it belongs to.
NO_ROOM = {
    SubmitOutcome.QUEUE_FULL.encode(): ("queued", "queue"),
    SubmitOutcome.ACCOUNT_FULL.encode(): ("queued", "account"),
    SubmitOutcome.KEY_FULL.encode(): ("queued", "key"),
    SubmitOutcome.LONG_WAIT.encode(): ("wait", "queue"),
}


def refuse(job: Submission, cost: int, answer: Sequence[bytes]) -> NoReturn:
    """Raise the error of a refused submission, but not of one in NO_ROOM.

    Args:
        job: The submission.
        cost: Its estimated tokens.
        answer: What `submit.lua` returned.
    """
    match SubmitOutcome(answer[0].decode()):
        case SubmitOutcome.MISMATCH:
            raise mismatch()
        case SubmitOutcome.PAST:
            name = answer[1].decode()
            raise InvalidJob(f"{name}: a time in the future is expected", param=name)
        case SubmitOutcome.OVER_BUDGET if job.reservation is not None:
            raise _over_budget(job, job.reservation, answer[1].decode(), int(answer[2]))
        case SubmitOutcome.SPENDING_UNKNOWN:
            raise SpendingUnknown(
                "the spending of this account in this month is not known at the moment",
                retry_after_seconds=1,
            )
        case SubmitOutcome.RATE_LIMITED:
            raise rate_limited(job.quota, cost, answer)
        case SubmitOutcome.FAILING:
            metrics.limit_refusals.labels("failures", "account").inc()
            raise TooManyFailures(
                f"more than {answer[1].decode()} jobs a minute of this account failed while they"
                " ran: read the errors of the failed jobs and correct the requests",
                retry_after_seconds=int(answer[2]) / 1000,
            )
        case SubmitOutcome.LOCK_LOST:
            raise LockLost(
                f"the lock of {job.id} is held by another process, or by none",
                retry_after_seconds=1,
            )
        case SubmitOutcome.QUEUE_DRAINING:
            raise QueueDraining(
                f"the queue of {job.queue} takes no new jobs at the moment",
                retry_after_seconds=DRAINING_SECONDS,
            )
    raise ValueError(f"submit answered {answer[0]!r}")


def no_room(
    tier: ServiceTier, kind: bytes, seconds: float, longest: float | None
) -> QueueFull | WaitTooLong:
    """Return the error for an outcome in NO_ROOM; `seconds` until there should be room."""
    metrics.limit_refusals.labels(*NO_ROOM[kind]).inc()
    outcome = SubmitOutcome(kind.decode())
    if outcome is SubmitOutcome.LONG_WAIT:
        return WaitTooLong(
            f"a job in tier {tier} would wait longer than {longest:g} s",
            retry_after_seconds=seconds,
        )
    text = {
        SubmitOutcome.QUEUE_FULL: f"the queue is full for tier {tier}",
        SubmitOutcome.ACCOUNT_FULL: "this account's share of the queue is full",
        SubmitOutcome.KEY_FULL: "this key's share of the queue, or that of its user, is full",
    }[outcome]
    return QueueFull(text, retry_after_seconds=seconds)


def mismatch() -> IdempotencyMismatch:
    """Return the error for an idempotency key that was used with another request."""
    text = "this Idempotency-Key was used before with another request"
    return IdempotencyMismatch(text, param="Idempotency-Key")


def rate_limited(quota: Quota, cost: int, answer: Sequence[bytes]) -> RateLimited | LimitTooSmall:
    """Return the error for a rate without room.

    Args:
        quota: The caller's rates.
        cost: The request's estimated tokens.
        answer: What the script returned.
    """
    rate, wait_ms = quota.rates[int(answer[1]) - 1], int(answer[2])
    limit = f"{rate.limit} {rate.kind} a minute of this {rate.owner}"
    metrics.limit_refusals.labels(rate.kind, rate.owner).inc()
    if wait_ms < 0:
        at_once = limit if rate.burst == rate.limit else f"{rate.burst} at once of {limit}"
        return LimitTooSmall(
            f"this request may take {cost} tokens, more than the {at_once}: shorten the prompt or"
            " lower max_tokens",
            param="max_tokens",
        )
    return RateLimited(
        f"the limit of {limit} is reached",
        retry_after_seconds=wait_ms / 1000,
        rate_limits=rate_limit_statuses(quota.rates, answer[3:]),
    )


def _over_budget(
    job: Submission, reservation: BudgetReservation, scope: str, left: int
) -> BudgetExceeded:
    bucket, owner = reservation.bucket, "account" if scope == ACCOUNT else "key"
    needed, remaining = (f"{from_nanos(nanos):f}" for nanos in (reservation.nanos, left))
    return BudgetExceeded(
        f"this request may cost up to {needed} {bucket.currency}, and {remaining} are left of this"
        f" {owner}'s budget for {bucket.month}{_advice(job)}",
        budget={
            "scope": owner,
            "month": bucket.month,
            "currency": bucket.currency,
            "left": remaining,
            "needed": needed,
        },
    )


def _advice(job: Submission) -> str:
    """Return a hint for a request whose output is bounded only by the model's context."""
    body = job.spec.body
    if "input" in body or body.get("max_completion_tokens") or body.get("max_tokens"):
        return ""
    return "; set max_tokens, because without it a whole context of output counts"
