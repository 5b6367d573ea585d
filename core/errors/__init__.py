"""The errors that every package may raise; import them from here.

    PipelineError
      ClientError:   the request must change: access, jobs, limits
      Overloaded:    come back after `retry_after_seconds`: limits, outages
      AttemptError:  an attempt failed: attempts

A class stands in the module of its subject. Errors of one package stand there: `accounts.errors`,
`billing.errors`, `webhooks.errors`, `files.errors`, `batches.errors`, `intake.errors`; those of
requests over HTTP in `wire.errors`.
"""

from core.errors.access import (
    AccountSuspended,
    AddressForbidden,
    Forbidden,
    ModelForbidden,
    Unauthenticated,
)
from core.errors.attempts import (
    DeadlineExceeded,
    EngineDead,
    EngineError,
    LeaseLost,
    ModelRetired,
    PoisonJob,
    RunTimeout,
    TooManyAttempts,
)
from core.errors.base import (
    AttemptError,
    ClientError,
    Overloaded,
    PipelineError,
    error_class,
)
from core.errors.jobs import (
    ContextLengthExceeded,
    IdempotencyMismatch,
    InvalidJob,
    JobConflict,
    JobGone,
    JobNotFound,
    ModelBusy,
    ModelNotFound,
)
from core.errors.limits import (
    BudgetExceeded,
    LimitTooSmall,
    QueueDraining,
    QueueFull,
    RateLimited,
    SpendingUnknown,
    TooManyFailures,
    WaitTooLong,
)
from core.errors.outages import (
    DatabaseUnavailable,
    LockLost,
    StoreUnavailable,
    TokeniserUnavailable,
)

__all__ = [
    "AccountSuspended",
    "AddressForbidden",
    "AttemptError",
    "BudgetExceeded",
    "ClientError",
    "ContextLengthExceeded",
    "DatabaseUnavailable",
    "DeadlineExceeded",
    "EngineDead",
    "EngineError",
    "Forbidden",
    "IdempotencyMismatch",
    "InvalidJob",
    "JobConflict",
    "JobGone",
    "JobNotFound",
    "LeaseLost",
    "LimitTooSmall",
    "LockLost",
    "ModelBusy",
    "ModelForbidden",
    "ModelNotFound",
    "ModelRetired",
    "Overloaded",
    "PipelineError",
    "PoisonJob",
    "QueueDraining",
    "QueueFull",
    "RateLimited",
    "RunTimeout",
    "SpendingUnknown",
    "StoreUnavailable",
    "TokeniserUnavailable",
    "TooManyAttempts",
    "TooManyFailures",
    "Unauthenticated",
    "WaitTooLong",
    "error_class",
]
