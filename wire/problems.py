"""Renders errors as HTTP responses.

An error class carries its status and title; two shapes render them: `application/problem+json`
(RFC 9457), and OpenAI's `{"error": ...}` on OpenAI's routes. Invariant: no error leaves in
another shape, 429 and 503 always carry Retry-After, and no text of an unknown exception is
ever shown.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from core import errors
from jobs.status import Status
from wire.errors import FieldError, JobCancelled
from wire.rate_limit_headers import rate_headers

RETRY_AFTER_SECONDS = 2.0
#: The pipeline has retried already; OpenAI's clients would repeat the job, and pay, on their own.
NO_RETRY = {"X-Should-Retry": "false"}


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """How one class of error looks; `openai_status` where OpenAI's clients expect another."""

    status: int
    title: str
    openai_status: int | None = None
    openai_code: str | None = None


def kind_of(error: type[errors.PipelineError]) -> ErrorKind:
    """Return how errors of this class look."""
    return ErrorKind(error.status, error.title, error.openai_status, error.openai_code)


@dataclass(frozen=True, slots=True)
class Problem:
    """One occurrence of an error, ready for either shape."""

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

    def as_problem(self) -> dict[str, Any]:
        """Return the RFC 9457 object."""
        optional = {
            "instance": self.job_id and f"/v1/jobs/{self.job_id}",
            "param": self.param,
            "request_id": self.request_id,
            "job_id": self.job_id,
            "retry_after": self.retry_after,
            "errors": [
                {"pointer": wrong.pointer, "message": wrong.message} for wrong in self.fields
            ],
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
        """Return the object OpenAI clients turn into an exception."""
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
        """Status on the OpenAI routes."""
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
    """Describe an error raised on purpose."""
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
        headers=rate_headers(getattr(error, "standings", ())),
        budget=getattr(error, "budget", None),
    )


def from_record(record: Mapping[str, Any], job_id: str) -> Problem:
    """Describe the error a failed job's record and log keep."""
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
    """Describe why a finished job has no result."""
    if status is Status.CANCELLED:
        cancelled = from_error(JobCancelled(f"job {job_id} was cancelled"), job_id=job_id)
        return replace(cancelled, headers=NO_RETRY)
    return from_record(error or {}, job_id)


def internal() -> Problem:
    """Describe an unknown exception, without any of its text."""
    return Problem(
        kind_of(errors.PipelineError), "internal", "something went wrong on our side; it is logged"
    )
