"""The base classes of all errors raised on purpose, and the register of their codes.

Each class carries its stable `code`, its HTTP status and its title, so that an error is described
in one place. Invariant: codes are unique and never renamed, because clients compare them;
`retryable` says whether another attempt of the job could succeed.
"""

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


class Overloaded(PipelineError):
    """Refused for now; retry after `retry_after_seconds`."""

    code = "overloaded"
    status = 503
    title = "Overloaded"
    retryable = True

    def __init__(self, message: str, *, retry_after_seconds: float) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class AttemptError(PipelineError):
    """An error while a worker had the job."""

    code = "attempt-error"
    status = 500
    title = "The job failed"


def error_class(code: str) -> type[PipelineError] | None:
    """Return the class of the errors with this code, or None for a code that no class has."""
    return _BY_CODE.get(code)
