"""Every error the pipeline raises on purpose; no HTTP in here.

Invariant: each class has a stable kebab-case `code` (never renamed: clients read it)
and says whether another attempt could help (`retryable`).

    PipelineError
      ClientError:   InvalidJob, JobNotFound, JobGone, JobConflict, IdempotencyMismatch,
                     ModelNotFound, Unauthenticated, Forbidden, AccountSuspended,
                     ModelForbidden, AddressForbidden, BudgetExceeded, LimitTooSmall
      Overloaded:    QueueFull, WaitTooLong, QueueDraining, RateLimited, StoreUnavailable,
                     SpendingUnknown, LockLost
                                                          (carry retry_after_seconds)
      AttemptError:  EngineError, EngineDead, LeaseLost, DeadlineExceeded, RunTimeout,
                     TooManyAttempts
"""

from collections.abc import Sequence
from typing import Any, ClassVar


class PipelineError(Exception):
    """Base of all. `str(error)` is safe to show to the client."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    def as_dict(self) -> dict[str, Any]:
        """Return the shape stored on a failed job and sent in `event: error`."""
        return {"code": self.code, "message": self.message, "param": self.param}


class ClientError(PipelineError):
    """The request itself must change before it can succeed."""

    code = "bad-request"


class InvalidJob(ClientError):
    """A field is missing, unknown, of the wrong type or out of range; `param` names it."""

    code = "invalid-job"


class ContextLengthExceeded(InvalidJob):
    """Prompt plus requested output do not fit the model's context."""

    code = "context-length-exceeded"


class ModelNotFound(ClientError):
    """No queue serves this model name."""

    code = "model-not-found"


class Unauthenticated(ClientError):
    """No key, or a key that is unknown."""

    code = "unauthenticated"


class Forbidden(ClientError):
    """The key is known, and may not do this."""

    code = "forbidden"


class AccountSuspended(Forbidden):
    """The account may do nothing until the operator lets it."""

    code = "account-suspended"


class ModelForbidden(Forbidden):
    """The key's scopes leave this model out."""

    code = "model-forbidden"


class AddressForbidden(Forbidden):
    """The key is good, but not from this address."""

    code = "address-forbidden"


class JobNotFound(ClientError):
    """Unknown id, or another account's: the two look alike."""

    code = "job-not-found"


class JobGone(ClientError):
    """The job finished and its retention has passed."""

    code = "job-gone"


class JobConflict(ClientError):
    """The job's status does not allow this."""

    code = "job-conflict"


class IdempotencyMismatch(ClientError):
    """The idempotency key was used before with another body."""

    code = "idempotency-mismatch"


class BudgetExceeded(ClientError):
    """The job may cost more than is left of a hard budget; `budget` says which and how much."""

    code = "budget-exceeded"

    def __init__(self, message: str, *, budget: dict[str, str]) -> None:
        super().__init__(message)
        self.budget = budget


class LimitTooSmall(ClientError):
    """The job alone may take more tokens than the key may in a minute: it never fits."""

    code = "limit-too-small"


class Overloaded(PipelineError):
    """Refused for now; `retry_after_seconds` says when to come back."""

    code = "overloaded"
    retryable = True

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class QueueFull(Overloaded):
    """The queue, or a tier's, an account's or a key's share of it, is at its bound."""

    code = "queue-full"


class WaitTooLong(Overloaded):
    """The job would wait longer than the operator lets jobs wait."""

    code = "wait-too-long"


class QueueDraining(Overloaded):
    """An operator drains the queue: it takes no new jobs."""

    code = "queue-draining"


class LockLost(Overloaded):
    """Only who holds a lock may submit this, and who tried does not hold it."""

    code = "lock-lost"


class RateLimited(Overloaded):
    """A rate has no room; `standings` are all rates of the key as they are now."""

    code = "rate-limited"

    def __init__(
        self, message: str, *, retry_after_seconds: float, standings: Sequence[Any] = ()
    ) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds)
        self.standings = standings


class SpendingUnknown(Overloaded):
    """A hard budget cannot be checked at the moment, and refuses what it cannot check."""

    code = "spending-unknown"


class StoreUnavailable(Overloaded):
    """Redis does not answer, or refuses writes."""

    code = "store-unavailable"


class AttemptError(PipelineError):
    """Something went wrong while a worker had the job."""

    code = "attempt-error"


class EngineError(AttemptError):
    """The engine failed this generation; it may serve others."""

    code = "engine-error"
    retryable = True


class EngineDead(AttemptError):
    """The engine is gone; the worker exits and the job runs elsewhere."""

    code = "engine-dead"
    retryable = True


class LeaseLost(AttemptError):
    """Another attempt owns the job now; this one must stop without writing."""

    code = "lease-lost"


class DeadlineExceeded(AttemptError):
    """The client's deadline or start limit passed."""

    code = "deadline-exceeded"


class RunTimeout(AttemptError):
    """The run took longer than the server's limit for one job."""

    code = "run-timeout"


class TooManyAttempts(AttemptError):
    """The attempt cap was reached; the job is in the dead-letter list."""

    code = "too-many-attempts"
