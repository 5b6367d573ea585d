"""Errors as HTTP: the only place that knows which error is which status.

One table maps error classes to statuses; two shapes render them: `application/problem+json`
(RFC 9457), and OpenAI's `{"error": ...}` where OpenAI clients look. Invariant: nothing leaves
in another shape, 429 and 503 always say when to come back, and no text of an unknown exception
is ever shown.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from accounts import errors as accounts
from billing import errors as billing
from core import errors
from jobs.status import Status
from webhooks import errors as webhooks
from wire import errors as door
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


TABLE: dict[type[errors.PipelineError], ErrorKind] = {
    errors.PipelineError: ErrorKind(500, "Internal error"),
    errors.ClientError: ErrorKind(400, "Bad request"),
    errors.InvalidJob: ErrorKind(422, "Invalid request", openai_status=400),
    errors.ContextLengthExceeded: ErrorKind(422, "Context length exceeded", openai_status=400),
    errors.ModelNotFound: ErrorKind(404, "Model not found"),
    errors.Unauthenticated: ErrorKind(401, "Unauthenticated", openai_code="invalid_api_key"),
    errors.Forbidden: ErrorKind(403, "Forbidden", openai_code="insufficient_permissions"),
    errors.AccountSuspended: ErrorKind(403, "Account suspended", openai_code="account_suspended"),
    errors.ModelForbidden: ErrorKind(403, "Model not allowed"),
    errors.AddressForbidden: ErrorKind(403, "Address not allowed"),
    errors.LimitTooSmall: ErrorKind(422, "Limit too small", openai_status=400),
    errors.BudgetExceeded: ErrorKind(402, "Budget exceeded", openai_code="insufficient_quota"),
    errors.JobNotFound: ErrorKind(404, "Job not found"),
    errors.JobGone: ErrorKind(410, "Job gone", openai_status=404),
    errors.JobConflict: ErrorKind(409, "Conflict with the job's status"),
    errors.IdempotencyMismatch: ErrorKind(422, "Idempotency key reused"),
    errors.Overloaded: ErrorKind(503, "Overloaded"),
    errors.QueueFull: ErrorKind(429, "Queue full"),
    errors.WaitTooLong: ErrorKind(429, "Wait too long"),
    errors.QueueDraining: ErrorKind(503, "Queue draining"),
    errors.RateLimited: ErrorKind(429, "Rate limited", openai_code="rate_limit_exceeded"),
    errors.LockLost: ErrorKind(503, "Lock lost"),
    errors.SpendingUnknown: ErrorKind(503, "Spending unknown"),
    errors.StoreUnavailable: ErrorKind(503, "Job store unavailable"),
    errors.AttemptError: ErrorKind(500, "The job failed"),
    errors.EngineError: ErrorKind(500, "Engine error"),
    errors.EngineDead: ErrorKind(503, "Engine gone"),
    errors.LeaseLost: ErrorKind(500, "Lease lost"),
    errors.DeadlineExceeded: ErrorKind(504, "Deadline exceeded"),
    errors.RunTimeout: ErrorKind(504, "Run timeout"),
    errors.TooManyAttempts: ErrorKind(503, "Too many attempts"),
    billing.DatabaseUnavailable: ErrorKind(503, "Billing database unavailable"),
    billing.InvalidPrice: ErrorKind(422, "Invalid price"),
    billing.InvalidBudget: ErrorKind(422, "Invalid budget"),
    billing.InvalidMonth: ErrorKind(422, "Invalid month"),
    billing.InvalidAmount: ErrorKind(422, "Invalid amount"),
    billing.AccountNotFound: ErrorKind(404, "Account not found"),
    billing.InvoiceNotFound: ErrorKind(404, "Invoice not found"),
    billing.ExportFailed: ErrorKind(500, "Export failed"),
    billing.MonthConflict: ErrorKind(409, "Conflict with the month's state"),
    billing.MonthNotOver: ErrorKind(409, "Month not over"),
    billing.MonthOutOfOrder: ErrorKind(409, "Earlier month open"),
    billing.MonthClosed: ErrorKind(409, "Month closed"),
    billing.MonthNotClosed: ErrorKind(409, "Month not closed"),
    billing.UnpricedUsage: ErrorKind(409, "Usage without a price"),
    webhooks.InvalidWebhook: ErrorKind(422, "Invalid webhook"),
    webhooks.EndpointNotFound: ErrorKind(404, "Webhook not found"),
    webhooks.DeliveryNotFound: ErrorKind(404, "Delivery not found"),
    webhooks.TooManyEndpoints: ErrorKind(409, "Too many webhooks"),
    webhooks.EndpointDisabled: ErrorKind(409, "Webhook disabled"),
    accounts.KeyNotFound: ErrorKind(404, "Key not found"),
    accounts.UserNotFound: ErrorKind(404, "User not found"),
    accounts.InvalidAccount: ErrorKind(422, "Invalid account, user or key"),
    accounts.WrongPassword: ErrorKind(401, "Wrong email or password"),
    accounts.SessionOver: ErrorKind(401, "Session over", openai_code="invalid_api_key"),
    accounts.AccountConflict: ErrorKind(409, "Conflict with what there is"),
    accounts.EmailTaken: ErrorKind(409, "Email taken"),
    accounts.AccountExists: ErrorKind(409, "Account exists"),
    accounts.LastAdmin: ErrorKind(409, "Last admin"),
    accounts.TooManySignIns: ErrorKind(429, "Too many sign-ins"),
    accounts.Busy: ErrorKind(503, "Sign-in busy"),
    accounts.IssuerUnavailable: ErrorKind(503, "Identity provider unavailable"),
    door.MalformedBody: ErrorKind(400, "Malformed body"),
    door.BodyTooLarge: ErrorKind(413, "Body too large"),
    door.MalformedRequest: ErrorKind(400, "Malformed request"),
    door.HeadersTooLarge: ErrorKind(431, "Headers too large"),
    door.HeadersTimeout: ErrorKind(408, "Headers timeout"),
    door.BodyTimeout: ErrorKind(408, "Body timeout"),
    door.InvalidBody: ErrorKind(422, "Invalid request", openai_status=400),
    door.UnsupportedModel: ErrorKind(422, "Model not fit for this", openai_status=400),
    door.UnsupportedParameter: ErrorKind(422, "Parameter not supported", openai_status=400),
    door.InvalidHeader: ErrorKind(400, "Invalid header"),
    door.InvalidCursor: ErrorKind(400, "Invalid cursor"),
    door.ResultNotReady: ErrorKind(409, "No result"),
    door.ProofNotReady: ErrorKind(409, "No proof yet"),
    door.JobCancelled: ErrorKind(409, "Job cancelled"),
    door.FileMissing: ErrorKind(404, "File not found"),
    door.BatchMissing: ErrorKind(404, "Batch not found"),
    door.BatchConflict: ErrorKind(409, "Conflict with the batch's status"),
    door.TooManyBatches: ErrorKind(429, "Too many batches"),
    door.QuotaReached: ErrorKind(413, "File quota reached"),
    door.StorageFull: ErrorKind(507, "Storage full"),
    door.FilesUnavailable: ErrorKind(503, "File store unavailable"),
    door.ObjectMissing: ErrorKind(500, "Content missing"),
    door.ShuttingDown: ErrorKind(503, "Shutting down"),
    door.WaitTimeout: ErrorKind(504, "Wait timeout"),
    door.Restarted: ErrorKind(500, "Restarted"),
}


def subclasses(base: type[errors.PipelineError]) -> Iterator[type[errors.PipelineError]]:
    """Yield a class and all that derive from it."""
    yield base
    for derived in base.__subclasses__():
        yield from subclasses(derived)


def kind_of(error: type[errors.PipelineError]) -> ErrorKind:
    """Return the row of a class, or of the nearest class above it."""
    return next(TABLE[above] for above in error.__mro__ if above in TABLE)


#: A failed job's record keeps only the code; InvalidBody shares its parent's.
BY_CODE = {error.code: kind for error, kind in TABLE.items() if error is not door.InvalidBody}


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
    fields: Sequence[door.FieldError] = ()
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
    kind = BY_CODE.get(code, TABLE[errors.AttemptError])
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
        cancelled = from_error(door.JobCancelled(f"job {job_id} was cancelled"), job_id=job_id)
        return replace(cancelled, headers=NO_RETRY)
    return from_record(error or {}, job_id)


def internal() -> Problem:
    """Describe an unknown exception, without any of its text."""
    return Problem(
        TABLE[errors.PipelineError], "internal", "something went wrong on our side; it is logged"
    )
