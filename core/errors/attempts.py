"""Errors of an attempt, while a worker has the job."""

from core.errors.base import AttemptError


class EngineError(AttemptError):
    """The engine failed this generation; it may serve others."""

    code = "engine-error"
    status = 500
    title = "Engine error"
    retryable = True


class EngineDead(AttemptError):
    """The engine has died; the worker exits and the job runs on another one."""

    code = "engine-dead"
    status = 503
    title = "Engine gone"
    retryable = True


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
    """The job stopped its worker, run alone too; it is in the dead-letter list."""

    code = "poison-job"
    status = 500
    title = "Poison job"
