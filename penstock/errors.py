"""The errors of the client, as one tree under `PenstockError`.

An answer of the API becomes an `ApiError`: its class follows from the problem's code, else from the
status, so that a code that is newer than this client still has the class of its status.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from penstock.api_objects import BatchInfo, JobInfo


class PenstockError(Exception):
    """Base of all errors of this client."""


class ConnectionFailedError(PenstockError):
    """The server did not answer, in all tries."""


class StreamBrokenError(ConnectionFailedError):
    """A stream broke off too often without a new event; the job continues.

    Attributes:
        job_id: The job.
        last: The number of the last event that was returned; resume with `stream(id, after=last)`.
    """

    def __init__(self, job_id: str, last: int, reason: str) -> None:
        super().__init__(f"the stream of {job_id} broke off after event {last}: {reason}")
        self.job_id = job_id
        self.last = last


class EventsLostError(PenstockError):
    """Events of the job are no longer kept; its result, once it has ended, is complete.

    Attributes:
        job_id: The job.
        first_available: The number of the first event that is still kept.
    """

    def __init__(self, job_id: str, first_available: int) -> None:
        super().__init__(f"the events of {job_id} before number {first_available} are gone")
        self.job_id = job_id
        self.first_available = first_available


class WaitTimeoutError(PenstockError, TimeoutError):
    """The time to wait is over; the job or batch continues."""


class InvalidSignatureError(PenstockError):
    """The delivery of a webhook is not signed with this secret, or is too old."""


class JobUnsuccessfulError(PenstockError):
    """The job ended without a result.

    Attributes:
        job: The job; `job.error` says why.
    """

    def __init__(self, job: "JobInfo") -> None:
        why = (job.error or {}).get("detail") or (job.error or {}).get("title")
        super().__init__(f"{job.id} is {job.status}" + (f": {why}" if why else ""))
        self.job = job


class JobFailedError(JobUnsuccessfulError):
    """All attempts of the job failed."""


class JobCancelledError(JobUnsuccessfulError):
    """The job was cancelled."""


class JobExpiredError(JobUnsuccessfulError):
    """A time limit of the job was reached."""


class BatchFailedError(PenstockError):
    """The batch has invalid lines, so that no line ran.

    Attributes:
        batch: The batch; `batch.errors` names the lines.
    """

    def __init__(self, batch: "BatchInfo") -> None:
        first = batch.errors[0].get("message") if batch.errors else None
        super().__init__(f"{batch.id} failed" + (f": {first}" if first else ""))
        self.batch = batch


@dataclass(frozen=True, slots=True)
class ProblemDetails:
    """What the API says about an error; see "Errors" in docs/wire-format.md.

    Attributes:
        retry_after: After how many seconds the request may succeed.
        may_repeat: False if a repeat would run, and charge, the work again.
        document: The whole problem document.
    """

    status: int
    code: str
    title: str
    detail: str
    param: str | None
    request_id: str | None
    retry_after: float | None
    may_repeat: bool
    document: Mapping[str, Any]


class ApiError(PenstockError):
    """The API refused a request.

    Attributes:
        problem: The problem document; its fields are also attributes of the error.
        codes: The codes that have this class, whatever their status.
    """

    codes: ClassVar[tuple[str, ...]] = ()

    def __init__(self, problem: ProblemDetails) -> None:
        super().__init__(f"{problem.status} {problem.code}: {problem.detail}")
        self.problem = problem

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status

    @property
    def code(self) -> str:
        """The stable name of the error in kebab case."""
        return self.problem.code

    @property
    def param(self) -> str | None:
        """The field that is wrong."""
        return self.problem.param

    @property
    def request_id(self) -> str | None:
        """The id of the request in the logs of the server."""
        return self.problem.request_id

    @property
    def retry_after(self) -> float | None:
        """After how many seconds the request may succeed."""
        return self.problem.retry_after


class BadRequestError(ApiError):
    """The request must change before it can succeed; the base of the 4xx without a class."""


class InvalidJobError(BadRequestError):
    """A field of the job is wrong."""

    codes: ClassVar[tuple[str, ...]] = ("invalid-job", "unsupported-parameter", "unsupported-model")


class ContextLengthExceededError(InvalidJobError):
    """Prompt and output do not fit the model."""

    codes = ("context-length-exceeded",)


class IdempotencyMismatchError(BadRequestError):
    """The idempotency key was used with another body."""

    codes = ("idempotency-mismatch",)


class AuthenticationError(ApiError):
    """The key is missing, unknown or revoked."""


class NoBudgetError(ApiError):
    """The budget of the account or the key is used up."""

    codes = ("budget-exceeded",)


class PermissionDeniedError(ApiError):
    """The key may not do this."""


class NotFoundError(ApiError):
    """The object is unknown, or another account's."""


class GoneError(NotFoundError):
    """The object was deleted, or is past its retention."""

    codes = ("job-gone",)


class ConflictError(ApiError):
    """The state of the object does not allow this."""


class NoResultYetError(ConflictError):
    """The job has not ended."""

    codes = ("result-not-ready",)


class RateLimitedError(ApiError):
    """A limit is reached; try again after `retry_after` seconds."""


class QueueFullError(RateLimitedError):
    """The queue of the model takes no more jobs, or the wait would be too long."""

    codes = ("queue-full", "wait-too-long")


class ServerError(ApiError):
    """The server failed."""


class UnavailableError(ServerError):
    """The server cannot serve the request at the moment."""


class ServerTimeoutError(ServerError):
    """A time limit of the server was reached."""


_BY_STATUS: dict[int, type[ApiError]] = {
    401: AuthenticationError,
    402: NoBudgetError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
    429: RateLimitedError,
    502: UnavailableError,
    503: UnavailableError,
    504: ServerTimeoutError,
    507: UnavailableError,
}


def _by_code(base: type[ApiError]) -> dict[str, type[ApiError]]:
    """Return the classes below `base` by their codes."""
    found: dict[str, type[ApiError]] = dict.fromkeys(base.codes, base)
    for child in base.__subclasses__():
        found |= _by_code(child)
    return found


BY_CODE = _by_code(ApiError)


def api_error(problem: ProblemDetails) -> ApiError:
    """Return the error of a problem, in the class of its code, else of its status."""
    of_status = _BY_STATUS.get(
        problem.status, ServerError if problem.status >= 500 else BadRequestError
    )
    return BY_CODE.get(problem.code, of_status)(problem)


def job_error(job: "JobInfo") -> JobUnsuccessfulError:
    """Return the error of a job that ended without a result."""
    kinds = {"cancelled": JobCancelledError, "expired": JobExpiredError}
    return kinds.get(job.status, JobFailedError)(job)
