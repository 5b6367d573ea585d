"""Errors of an attempt, while a worker has the job."""

from core.errors.base import AttemptError


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


class ModelRetired(AttemptError):
    """The model was retired before the job ran; the job is in the dead-letter list."""

    code = "model-retired"
    status = 503
    title = "Model retired"


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
