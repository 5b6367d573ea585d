"""Errors of submissions, and of jobs and models that are looked for."""

from typing import ClassVar

from core.errors.base import ClientError


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


class ModelBusy(ClientError):
    """The model has jobs, so that it is not retired unless the caller says what becomes of them."""

    code = "model-busy"
    status = 409
    title = "Model busy"


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
