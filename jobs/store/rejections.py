"""What a submission is told that the script did not accept: why, and when to come back."""

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
    WaitTooLong,
)
from jobs.fairness import ServiceTier
from jobs.store.budget_reservations import ACCOUNT, BudgetReservation, from_nanos
from jobs.store.rate_limits import Quota, standings
from jobs.store.transitions import Submission

#: When a client comes back to a queue that an operator drains.
DRAINING_SECONDS = 30.0

#: What is counted of a refusal for lack of room: the limit, and whose it is.
ROOM = {
    b"queue-full": ("queued", "queue"),
    b"account-full": ("queued", "account"),
    b"key-full": ("queued", "key"),
    b"long-wait": ("wait", "queue"),
}


def refuse(job: Submission, cost: int, answer: Sequence[bytes]) -> NoReturn:
    """Raise what `JobStore.submit` says; `cost` is what the job is estimated to take, in tokens."""
    match answer[0]:
        case b"mismatch":
            raise mismatch()
        case b"past":
            name = answer[1].decode()
            raise InvalidJob(f"{name}: a time in the future is expected", param=name)
        case b"over-budget" if job.hold is not None:
            raise _over_budget(job.hold, answer[1].decode(), int(answer[2]))
        case b"spending-unknown":
            raise SpendingUnknown(
                "what this account has spent this month is not known at the moment",
                retry_after_seconds=1,
            )
        case b"rate-limited":
            raise _rate_limited(job.quota, cost, answer)
        case b"lock-lost":
            raise LockLost(f"{job.id}: its lock is not held", retry_after_seconds=1)
        case b"draining":
            raise QueueDraining(
                f"the queue of {job.queue} takes no new jobs at the moment",
                retry_after_seconds=DRAINING_SECONDS,
            )
    raise ValueError(f"submit answered {answer[0]!r}")


def no_room(
    tier: ServiceTier, kind: bytes, seconds: float, longest: float | None
) -> QueueFull | WaitTooLong:
    """Return what is told when a queue is at a bound of `ROOM`; `seconds` until there is room."""
    metrics.limit_refusals.labels(*ROOM[kind]).inc()
    if kind == b"long-wait":
        return WaitTooLong(
            f"a job in tier {tier} would wait longer than {longest:g} s",
            retry_after_seconds=seconds,
        )
    whose = {
        b"queue-full": f"the queue is full for tier {tier}",
        b"account-full": "this account's share of the queue is full",
        b"key-full": "this key's share of the queue is full",
    }[kind]
    return QueueFull(whose, retry_after_seconds=seconds)


def mismatch() -> IdempotencyMismatch:
    """Return what is told of a key that stands for another request."""
    text = "this Idempotency-Key was used before with another request"
    return IdempotencyMismatch(text, param="Idempotency-Key")


def _rate_limited(quota: Quota, cost: int, answer: Sequence[bytes]) -> RateLimited | LimitTooSmall:
    rate, wait_ms = quota.rates[int(answer[1]) - 1], int(answer[2])
    limit = f"{rate.limit} {rate.kind} a minute of this {rate.whose}"
    metrics.limit_refusals.labels(rate.kind, rate.whose).inc()
    if wait_ms < 0:
        return LimitTooSmall(
            f"this request may take {cost} tokens, more than the {limit}: shorten the prompt or"
            " lower max_tokens",
            param="max_tokens",
        )
    return RateLimited(
        f"the limit of {limit} is reached",
        retry_after_seconds=wait_ms / 1000,
        standings=standings(quota.rates, answer[3:]),
    )


def _over_budget(hold: BudgetReservation, scope: str, left: int) -> BudgetExceeded:
    bucket, whose = hold.bucket, "account" if scope == ACCOUNT else "key"
    needed, remaining = (f"{from_nanos(nanos):f}" for nanos in (hold.nanos, left))
    return BudgetExceeded(
        f"this request may cost up to {needed} {bucket.currency}, and {remaining} are left of this"
        f" {whose}'s budget for {bucket.month}",
        budget={
            "scope": whose,
            "month": bucket.month,
            "currency": bucket.currency,
            "left": remaining,
            "needed": needed,
        },
    )
