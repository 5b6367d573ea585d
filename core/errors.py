"""Base classes of all errors raised on purpose, and the errors that every package may raise.

Each class carries its stable `code`, its HTTP status and its title, so that an error is
described in one place. Invariant: codes are unique and never renamed, because clients compare
them; `retryable` says whether another attempt of the job could succeed.

    PipelineError
      ClientError:   InvalidJob, JobNotFound, JobGone, JobConflict, IdempotencyMismatch,
                     ModelNotFound, Unauthenticated, Forbidden, AccountSuspended,
                     ModelForbidden, AddressForbidden, BudgetExceeded, LimitTooSmall
      Overloaded:    QueueFull, WaitTooLong, QueueDraining, RateLimited, TooManyFailures,
                     StoreUnavailable, DatabaseUnavailable, SpendingUnknown, LockLost
                                                          (carry retry_after_seconds)
      AttemptError:  EngineError, EngineDead, LeaseLost, DeadlineExceeded, RunTimeout,
                     TooManyAttempts, PoisonJob

Errors of one subject stand with it: `accounts.errors`, `billing.errors`, `webhooks.errors`,
`files.errors`, `batches.errors`, `intake.errors`; those of requests in `wire.errors`.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

_BY_CODE: dict[str, "type[PipelineError]"] = {}


class PipelineError(Exception):
    """Base of all errors raised on purpose. `str(error)` is safe to show to the client.

    Each class says how it looks over HTTP:

    Attributes:
        code: Stable kebab-case name; clients compare it.
        status: HTTP status.
        title: Short text of the problem document; the same for every occurrence.
        openai_status: Status on OpenAI's routes, where OpenAI's clients expect another one.
        openai_code: Code on OpenAI's routes; without it, `code` with underscores.
        retryable: Whether another attempt of the job could succeed.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    openai_status: ClassVar[int | None] = None
    openai_code: ClassVar[str | None] = None
    retryable: ClassVar[bool] = False

    def __init_subclass__(cls) -> None:
        """Register the class under its code.

        Raises:
            TypeError: Another error class has this code already.
        """
        super().__init_subclass__()
        if "code" not in cls.__dict__:
            return
        known = _BY_CODE.setdefault(cls.code, cls)
        if known is not cls and known.__qualname__ != cls.__qualname__:
            raise TypeError(f"{cls.__name__} and {known.__name__} both have the code {cls.code!r}")

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
    status = 400
    title = "Bad request"


class InvalidJob(ClientError):
    """A field is missing, unknown, of the wrong type or out of range; `param` names it."""

    code = "invalid-job"
    status = 422
    title = "Invalid request"
    openai_status: ClassVar[int | None] = 400


class ContextLengthExceeded(InvalidJob):
    """Prompt plus requested output do not fit the model's context."""

    code = "context-length-exceeded"
    status = 422
    title = "Context length exceeded"


class ModelNotFound(ClientError):
    """No queue serves this model."""

    code = "model-not-found"
    status = 404
    title = "Model not found"


class Unauthenticated(ClientError):
    """There is no key, or the key is unknown."""

    code = "unauthenticated"
    status = 401
    title = "Unauthenticated"
    openai_code: ClassVar[str | None] = "invalid_api_key"


class Forbidden(ClientError):
    """The caller is known but may not do this."""

    code = "forbidden"
    status = 403
    title = "Forbidden"
    openai_code: ClassVar[str | None] = "insufficient_permissions"


class AccountSuspended(Forbidden):
    """The account is suspended until the operator resumes it."""

    code = "account-suspended"
    status = 403
    title = "Account suspended"
    openai_code = "account_suspended"


class ModelForbidden(Forbidden):
    """The key's scopes do not include this model."""

    code = "model-forbidden"
    status = 403
    title = "Model not allowed"
    openai_code = None


class AddressForbidden(Forbidden):
    """The key may not be used from this address."""

    code = "address-forbidden"
    status = 403
    title = "Address not allowed"
    openai_code = None


class JobNotFound(ClientError):
    """The job is unknown or belongs to another account: the two look alike."""

    code = "job-not-found"
    status = 404
    title = "Job not found"


class JobGone(ClientError):
    """The job finished and its retention has passed."""

    code = "job-gone"
    status = 410
    title = "Job gone"
    openai_status = 404


class JobConflict(ClientError):
    """The job's status does not allow this."""

    code = "job-conflict"
    status = 409
    title = "Conflict with the job's status"


class IdempotencyMismatch(ClientError):
    """The idempotency key was used before with another body."""

    code = "idempotency-mismatch"
    status = 422
    title = "Idempotency key reused"


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
    """The job alone needs more tokens than the key may use in a minute, so it never fits."""

    code = "limit-too-small"
    status = 422
    title = "Limit too small"
    openai_status = 400


class Overloaded(PipelineError):
    """Refused for now; retry after `retry_after_seconds`."""

    code = "overloaded"
    status = 503
    title = "Overloaded"
    retryable = True

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


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


class LockLost(Overloaded):
    """The submission needs a lock that its submitter does not hold."""

    code = "lock-lost"
    status = 503
    title = "Lock lost"


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


class StoreUnavailable(Overloaded):
    """Redis does not answer, or refuses writes."""

    code = "store-unavailable"
    status = 503
    title = "Job store unavailable"


class DatabaseUnavailable(Overloaded):
    """The SQL database does not answer, or its schema is older than the code needs."""

    code = "database-unavailable"
    status = 503
    title = "Database unavailable"


class AttemptError(PipelineError):
    """An error while a worker had the job."""

    code = "attempt-error"
    status = 500
    title = "The job failed"


class EngineError(AttemptError):
    """The engine failed this generation; it may serve others."""

    code = "engine-error"
    status = 500
    title = "Engine error"
    retryable = True


class EngineDead(AttemptError):
    """The engine has died; the worker exits and the job runs on another one.

    Attributes:
        from_outside: Whether a signal ended it that no job can cause.
    """

    code = "engine-dead"
    status = 503
    title = "Engine gone"
    retryable = True

    def __init__(
        self, message: str, *, param: str | None = None, from_outside: bool = False
    ) -> None:
        super().__init__(message, param=param)
        self.from_outside = from_outside


class LeaseLost(AttemptError):
    """Another attempt owns the job now; this one must stop without writing."""

    code = "lease-lost"
    status = 500
    title = "Lease lost"


class DeadlineExceeded(AttemptError):
    """The client's deadline or start limit passed."""

    code = "deadline-exceeded"
    status = 504
    title = "Deadline exceeded"


class RunTimeout(AttemptError):
    """The run took longer than the server's limit for one job."""

    code = "run-timeout"
    status = 504
    title = "Run timeout"


class TooManyAttempts(AttemptError):
    """The attempt cap was reached; the job is in the dead-letter list."""

    code = "too-many-attempts"
    status = 503
    title = "Too many attempts"


class PoisonJob(AttemptError):
    """The job stopped its workers while it ran alone; it is in the dead-letter list."""

    code = "poison-job"
    status = 500
    title = "Poison job"


def error_class(code: str) -> type[PipelineError] | None:
    """Return the class of the errors with this code, or None for a code that no class has."""
    return _BY_CODE.get(code)
