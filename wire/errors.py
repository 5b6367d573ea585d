"""Errors that only exist at the HTTP door; `problems` maps them like those of `core.errors`."""

from dataclasses import dataclass

from core.errors import (
    AttemptError,
    ClientError,
    InvalidJob,
    JobConflict,
    Overloaded,
    PipelineError,
)


@dataclass(frozen=True, slots=True)
class FieldError:
    """One wrong field: `pointer` as RFC 6901, `field` as people write it."""

    pointer: str
    field: str
    message: str


class MalformedBody(ClientError):
    """The body is no JSON object in UTF-8."""

    code = "malformed-body"


class BodyTooLarge(ClientError):
    """The body is longer than `limits.body_bytes`."""

    code = "body-too-large"


class HeadersTooLarge(ClientError):
    """The request's line and headers are beyond `limits.header_bytes` or `limits.header_count`."""

    code = "headers-too-large"


class HeadersTimeout(ClientError):
    """The headers did not arrive in time."""

    code = "headers-timeout"


class MalformedRequest(ClientError):
    """What came is not HTTP."""

    code = "malformed-request"


class BodyTimeout(ClientError):
    """The body did not arrive in time."""

    code = "body-timeout"


class InvalidBody(InvalidJob):
    """Fields of the body are wrong; `fields` names each."""

    def __init__(self, fields: list[FieldError]) -> None:
        first = fields[0]
        super().__init__(f"{first.field}: {first.message}", param=first.field)
        self.fields = fields


class UnsupportedParameter(InvalidBody):
    """OpenAI knows this field, or this value of it; no engine here can do it."""

    code = "unsupported-parameter"


class UnsupportedModel(InvalidJob):
    """The model is served, and cannot do this."""

    code = "unsupported-model"


class InvalidHeader(InvalidJob):
    """A request header has a value that cannot be used; `param` names it."""

    code = "invalid-header"


class InvalidCursor(InvalidJob):
    """A cursor that was never given out; `param` says where it stood."""

    code = "invalid-cursor"


class ResultNotReady(JobConflict):
    """The job has no result: it has not finished, or it was cancelled."""

    code = "result-not-ready"


class ProofNotReady(JobConflict):
    """The job has not ended, or its usage is on its way to the ledger: ask again."""

    code = "proof-not-ready"


class JobCancelled(JobConflict):
    """The job was cancelled while this request waited for it."""

    code = "job-cancelled"


class FileMissing(ClientError):
    """Unknown file, another account's, deleted or expired: all look alike."""

    code = "file-not-found"


class BatchMissing(ClientError):
    """Unknown batch, or another account's: the two look alike."""

    code = "batch-not-found"


class BatchConflict(ClientError):
    """The batch's status does not allow this."""

    code = "batch-conflict"


class TooManyBatches(Overloaded):
    """The account has as many open batches as it may have."""

    code = "too-many-batches"


class QuotaReached(ClientError):
    """The account keeps as many bytes of files as it may keep."""

    code = "file-quota-reached"


class StorageFull(Overloaded):
    """The file store has no room."""

    code = "storage-full"


class FilesUnavailable(Overloaded):
    """The file store does not answer."""

    code = "files-unavailable"


class ObjectMissing(PipelineError):
    """A file whose content is not in the file store, though it should be."""

    code = "content-missing"


class ShuttingDown(Overloaded):
    """The API process is going away; another one answers."""

    code = "shutting-down"


class WaitTimeout(AttemptError):
    """The job did not finish while the client waited; the job goes on."""

    code = "wait-timeout"


class Restarted(AttemptError):
    """The job began anew after text had been sent: what was received does not count."""

    code = "restarted"
