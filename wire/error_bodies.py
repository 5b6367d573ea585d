"""Describes errors for clients, in two formats: RFC 9457 problems and OpenAI's error object.

An error class carries its status and title. Invariant: 429, 503 and 507 always have a
`retry_after` when they refuse a request, and the text of an unexpected exception is never shown.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from core import errors
from jobs.status import Status
from wire.errors import FieldError, JobCancelled
from wire.rate_limit_headers import rate_limit_headers

RETRY_AFTER_SECONDS = 2.0
#: OpenAI's clients would repeat a failed job and pay twice; the pipeline has already retried it.
NO_RETRY = {"X-Should-Retry": "false"}


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """Status and title of one class of error; `openai_*` replace them on OpenAI's routes."""

    status: int
    title: str
    openai_status: int | None = None
    openai_code: str | None = None


def kind_of(error: type[errors.PipelineError]) -> ErrorKind:
    """Take status and title from an error class."""
    return ErrorKind(error.status, error.title, error.openai_status, error.openai_code)


@dataclass(frozen=True, slots=True)
class Problem:
    """One occurrence of an error.

    Attributes:
        kind: Status and title of the class of error.
        code: Stable kebab-case name of the error.
        detail: Text for people, about this occurrence.
        param: Field, parameter or header at fault.
        job_id: The job that the error is about.
        request_id: The request on which the error happened.
        retry_after: Seconds after which to try again.
        fields: The first wrong fields of an invalid body.
        headers: Additional headers of the response.
        budget: The exceeded budget: scope, month, currency, what is left and what was needed.
        more_errors: How many wrong fields are not in `fields`.
    """

    kind: ErrorKind
    code: str
    detail: str
    param: str | None = None
    job_id: str | None = None
    request_id: str | None = None
    retry_after: int | None = None
    fields: Sequence[FieldError] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    budget: Mapping[str, str] | None = None
    more_errors: int = 0

    def as_problem(self) -> dict[str, Any]:
        """Build the RFC 9457 object, without empty fields."""
        optional = {
            "instance": self.job_id and f"/v1/jobs/{self.job_id}",
            "param": self.param,
            "request_id": self.request_id,
            "job_id": self.job_id,
            "retry_after": self.retry_after,
            "errors": [
                {"pointer": error.pointer, "message": error.message} for error in self.fields
            ],
            "more_errors": self.more_errors,
            "budget": self.budget,
        }
        return {
            "type": f"urn:penstock:problem:{self.code}",
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            "code": self.code,
            **{name: value for name, value in optional.items() if value},
        }

    def as_openai(self) -> dict[str, Any]:
        """Build the error object that OpenAI's clients turn into an exception."""
        error = {
            "message": self.detail,
            "type": _openai_type(self.openai_status),
            "param": self.param,
            "code": self.kind.openai_code or self.code.replace("-", "_"),
        }
        extra = {"job_id": self.job_id, "request_id": self.request_id, "budget": self.budget}
        return {"error": error | {name: value for name, value in extra.items() if value}}

    @property
    def openai_status(self) -> int:
        """HTTP status on OpenAI's routes."""
        return self.kind.openai_status or self.kind.status


def _openai_type(status: int) -> str:
    if status >= 500:
        return "server_error"
    return {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(
        status, "invalid_request_error"
    )


def from_error(
    error: errors.PipelineError, *, job_id: str | None = None, request_id: str | None = None
) -> Problem:
    """Describe an error that the pipeline raised.

    Args:
        error: The error; its class gives status and title.
        job_id: The job that the error is about.
        request_id: The request on which the error happened.

    Returns:
        The problem, with the error's own delay as `retry_after` if the client may try again.
    """
    kind = kind_of(type(error))
    retry_after = None
    if kind.status in (429, 503, 507):
        seconds = getattr(error, "retry_after_seconds", RETRY_AFTER_SECONDS)
        retry_after = max(1, math.ceil(seconds))
    return Problem(
        kind,
        error.code,
        error.message,
        error.param,
        job_id,
        request_id,
        retry_after,
        getattr(error, "fields", ()),
        headers=rate_limit_headers(getattr(error, "rate_limits", ())),
        budget=getattr(error, "budget", None),
        more_errors=getattr(error, "more", 0),
    )


def from_record(record: Mapping[str, Any], job_id: str) -> Problem:
    """Describe the error that is stored with a failed job.

    Args:
        record: The stored error: `code`, `message` and `param`.
        job_id: The job.

    Returns:
        The problem; an unknown code gets the status of a failed attempt.
    """
    code = str(record.get("code") or errors.PipelineError.code)
    kind = kind_of(errors.error_class(code) or errors.AttemptError)
    retry_after = int(RETRY_AFTER_SECONDS) if kind.status in (429, 503) else None
    message = str(record.get("message") or kind.title)
    return Problem(
        kind,
        code,
        message,
        record.get("param"),
        job_id,
        retry_after=retry_after,
        headers=NO_RETRY,
    )


def from_ending(status: Status, error: Mapping[str, Any] | None, job_id: str) -> Problem:
    """Describe why a job ended without a result.

    Args:
        status: Final status of the job; not `completed`.
        error: The error stored with the job, if it failed or expired.
        job_id: The job.
    """
    if status is Status.CANCELLED:
        cancelled = from_error(JobCancelled(f"Job {job_id} was cancelled"), job_id=job_id)
        return replace(cancelled, headers=NO_RETRY)
    return from_record(error or {}, job_id)


def internal() -> Problem:
    """Describe an unexpected exception, without its text."""
    return Problem(
        kind_of(errors.PipelineError), "internal", "An internal error occurred; it was logged"
    )
