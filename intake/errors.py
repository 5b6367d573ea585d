"""Errors of turning a request into a job and of waiting for it."""

from core.errors import AttemptError, InvalidJob, Overloaded


class UnsupportedModel(InvalidJob):
    """The model is served, and cannot do this."""

    code = "unsupported-model"
    status = 422
    title = "Model not fit for this"


class ShuttingDown(Overloaded):
    """The API process is going away; another one answers."""

    code = "shutting-down"
    status = 503
    title = "Shutting down"


class WaitTimeout(AttemptError):
    """The job did not finish while the client waited; the job continues."""

    code = "wait-timeout"
    status = 504
    title = "Wait timeout"
