"""Errors of limits: queues, rates and budgets that have no room for a job.

Where `retry_after_seconds` comes from: `jobs/store/rejections.py`.
"""

from collections.abc import Sequence
from typing import Any

from core.errors.base import ClientError, Overloaded


class BudgetExceeded(ClientError):
    """The job may cost more than is left of a hard budget; `budget` has the details."""

    code = "budget-exceeded"
    status = 402
    title = "Budget exceeded"
    openai_code = "insufficient_quota"

    def __init__(self, message: str, *, budget: dict[str, str]) -> None:
        super().__init__(message)
        self.budget = budget


class LimitTooSmall(ClientError):
    """The job alone needs more tokens than a limit lets pass at once, so it never fits."""

    code = "limit-too-small"
    status = 422
    title = "Limit too small"
    openai_status = 400


class QueueFull(Overloaded):
    """The queue, or a tier's, an account's or a key's share of it, is at its bound."""

    code = "queue-full"
    status = 429
    title = "Queue full"


class WaitTooLong(Overloaded):
    """The job would wait longer than the operator lets jobs wait."""

    code = "wait-too-long"
    status = 429
    title = "Wait too long"


class QueueDraining(Overloaded):
    """An operator drains the queue, so it takes no new jobs."""

    code = "queue-draining"
    status = 503
    title = "Queue draining"


class RateLimited(Overloaded):
    """A rate has no room now; `rate_limits` has the status of every rate of the key."""

    code = "rate-limited"
    status = 429
    title = "Rate limited"
    openai_code = "rate_limit_exceeded"

    def __init__(
        self, message: str, *, retry_after_seconds: float, rate_limits: Sequence[Any] = ()
    ) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds)
        self.rate_limits = rate_limits


class TooManyFailures(Overloaded):
    """Too many of the account's jobs failed in the last minute."""

    code = "too-many-failures"
    status = 429
    title = "Too many failures"
    openai_code = "rate_limit_exceeded"


class SpendingUnknown(Overloaded):
    """A hard budget cannot be checked now, so it refuses the job."""

    code = "spending-unknown"
    status = 503
    title = "Spending unknown"
