"""Errors of HTTP requests: their headers and bodies, and results that cannot be shown."""

from dataclasses import dataclass

from core.errors import (
    AttemptError,
    ClientError,
    InvalidJob,
    JobConflict,
    Overloaded,
)


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field: `pointer` in RFC 6901 notation, `field` in dotted notation."""

    pointer: str
    field: str
    message: str


class MalformedBody(ClientError):
    """The body is not a JSON object in UTF-8."""

    code = "malformed-body"
    status = 400
    title = "Malformed body"


class BodyTooLarge(ClientError):
    """The body is longer than `limits.body_bytes`."""

    code = "body-too-large"
    status = 413
    title = "Body too large"


class AddressBusy(Overloaded):
    """The client's address has too many connections, or too many unfinished bodies."""

    code = "address-busy"
    status = 429
    title = "Too much from one address"


class BodiesBusy(Overloaded):
    """The process holds too much of bodies that are still arriving."""

    code = "bodies-busy"
    status = 503
    title = "Too many bodies"


class HeadersTooLarge(ClientError):
    """Request line and headers exceed `limits.header_bytes` or `limits.header_count`."""

    code = "headers-too-large"
    status = 431
    title = "Headers too large"


class HeadersTimeout(ClientError):
    """The headers did not arrive in time."""

    code = "headers-timeout"
    status = 408
    title = "Headers timeout"


class MalformedRequest(ClientError):
    """The bytes received are not an HTTP request."""

    code = "malformed-request"
    status = 400
    title = "Malformed request"


class BodyTimeout(ClientError):
    """The body did not arrive in time."""

    code = "body-timeout"
    status = 408
    title = "Body timeout"


class InvalidBody(InvalidJob):
    """The body does not match its schema; `fields` lists wrong fields, `more` counts the others."""

    def __init__(self, fields: list[FieldError], more: int = 0) -> None:
        first = fields[0]
        super().__init__(f"{first.field}: {first.message}", param=first.field)
        self.fields = fields
        self.more = more


class UnsupportedParameter(InvalidBody):
    """OpenAI supports this field or value; our engines do not."""

    code = "unsupported-parameter"
    status = 422
    title = "Parameter not supported"


class InvalidHeader(InvalidJob):
    """A request header has an invalid value; `param` names the header."""

    code = "invalid-header"
    status = 400
    title = "Invalid header"


class InvalidCursor(InvalidJob):
    """The cursor is not one that the server returned; `param` names the parameter."""

    code = "invalid-cursor"
    status = 400
    title = "Invalid cursor"


class ResultNotReady(JobConflict):
    """The job has no result: it has not finished, or it was cancelled."""

    code = "result-not-ready"
    status = 409
    title = "No result"


class ProofNotReady(JobConflict):
    """The job has not ended, or its usage has not reached the ledger yet: try again later."""

    code = "proof-not-ready"
    status = 409
    title = "No proof yet"


class JobCancelled(JobConflict):
    """The job was cancelled while this request waited for it."""

    code = "job-cancelled"
    status = 409
    title = "Job cancelled"


class Restarted(AttemptError):
    """The job was restarted after output had been streamed; that output is invalid."""

    code = "restarted"
    status = 500
    title = "Restarted"
