"""Each error of the API has a class in the client that fits its status."""

import pytest

import batches.errors
import billing.errors
import files.errors
import intake.errors
import webhooks.errors
import wire.errors
from core.errors.base import PipelineError
from penstock import errors
from penstock.retries import refusal

#: The subclasses are those of the modules that are imported here, at least.
MODULES = (
    batches.errors,
    billing.errors,
    files.errors,
    intake.errors,
    webhooks.errors,
    wire.errors,
)


def kinds(base: type[PipelineError]) -> set[type[PipelineError]]:
    return {base}.union(*(kinds(child) for child in base.__subclasses__()))


ALL = sorted(kinds(PipelineError), key=lambda kind: kind.__name__)
FAMILIES = {
    401: errors.AuthenticationError,
    402: errors.NoBudgetError,
    403: errors.PermissionDeniedError,
    404: errors.NotFoundError,
    409: errors.ConflictError,
    410: errors.GoneError,
    429: errors.RateLimitedError,
    503: errors.UnavailableError,
    504: errors.ServerTimeoutError,
    507: errors.UnavailableError,
}


def made(status: int, code: str) -> errors.ApiError:
    body = f'{{"status": {status}, "code": "{code}", "detail": "why"}}'.encode()
    return refusal(status, {}, body)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_each_error_has_a_class_of_its_status(kind: type[PipelineError]) -> None:
    family = FAMILIES.get(
        kind.status, errors.ServerError if kind.status >= 500 else errors.BadRequestError
    )
    error = made(kind.status, kind.code)
    assert isinstance(error, family)
    assert (error.status, error.code) == (kind.status, kind.code)
    assert str(error) == f"{kind.status} {kind.code}: why"


def test_each_code_that_the_client_knows_is_one_of_the_api() -> None:
    assert set(errors.BY_CODE) <= {kind.code for kind in ALL}
    assert type(made(429, "queue-full")) is errors.QueueFullError
    assert type(made(422, "context-length-exceeded")) is errors.ContextLengthExceededError


def test_an_answer_that_is_no_problem_has_the_class_of_its_status() -> None:
    error = refusal(502, {"x-request-id": "req_1"}, b"<h1>Bad gateway</h1>")
    assert type(error) is errors.UnavailableError
    assert (error.code, error.request_id) == ("http-502", "req_1")
    assert "<h1>Bad gateway</h1>" in str(error)
    assert type(made(418, "a-newer-code")) is errors.BadRequestError


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [("7", 7.0), ("0.5", 0.5), ("-3", 0.0), ("soon", None)],
)
def test_retry_after_is_read(sent: str, seconds: float | None) -> None:
    assert refusal(503, {"retry-after": sent}, b"").retry_after == seconds


def test_retry_after_may_be_a_date() -> None:
    past = refusal(503, {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, b"")
    future = refusal(503, {"retry-after": "Wed, 21 Oct 2065 07:28:00 GMT"}, b"")
    assert past.retry_after == 0.0
    assert future.retry_after is not None
    assert future.retry_after > 3600
