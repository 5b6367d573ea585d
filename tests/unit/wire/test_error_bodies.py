"""Every error has a status, in both shapes."""

import importlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.exceptions import HTTPException

from api.http.error_handlers import from_http, is_openai_path, problem_response
from core import errors
from jobs.status import Status
from wire import error_bodies
from wire import errors as wire_errors

for package in ("accounts", "batches", "billing", "files", "intake", "webhooks"):
    importlib.import_module(f"{package}.errors")


def subclasses(base: type[errors.PipelineError]) -> Iterator[type[errors.PipelineError]]:
    yield base
    for derived in base.__subclasses__():
        yield from subclasses(derived)


ALL = sorted(
    {
        error
        for error in subclasses(errors.PipelineError)
        if not error.__module__.startswith("test")
    },
    key=lambda error: error.__name__,
)
#: One occurrence of InvalidJob that names every wrong field: to clients it is the same error.
SAME_AS_PARENT = {wire_errors.InvalidBody}


def make(error: type[errors.PipelineError]) -> errors.PipelineError:
    if issubclass(error, errors.Overloaded):
        return error("busy", retry_after_seconds=1.2)
    if error is errors.BudgetExceeded:
        return error("too dear", budget={"left": "0.10"})
    if issubclass(error, wire_errors.InvalidBody):
        return error([wire_errors.FieldError("/a/0", "a[0]", "no")])
    return error("detail", param="field")


def scope(path: str) -> dict[str, object]:
    return {"type": "http", "path": path, "state": {"request_id": "r1"}, "headers": []}


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_every_error_declares_how_it_looks(error: type[errors.PipelineError]) -> None:
    own = {"code", "status", "title"} & error.__dict__.keys()
    assert own == (set() if error in SAME_AS_PARENT else {"code", "status", "title"})
    assert 400 <= error.status < 600
    assert error.__doc__


def test_codes_and_titles_are_unique() -> None:
    own = [error for error in ALL if error not in SAME_AS_PARENT]
    assert len({error.code for error in own}) == len(own)
    shown = [error.title for error in own if error is not errors.InvalidJob]
    assert len(set(shown)) == len(shown)


def test_a_code_that_another_class_has_is_refused() -> None:
    with pytest.raises(TypeError, match="both have the code"):
        type("Impostor", (errors.ClientError,), {"code": "job-not-found"})
    assert errors.error_class("job-not-found") is errors.JobNotFound


def test_an_outage_of_sql_reads_the_same_on_every_route() -> None:
    problem = error_bodies.from_error(
        errors.DatabaseUnavailable("no answer", retry_after_seconds=2)
    )
    for path in ("/v1/webhooks", "/v1/billing/invoices", "/v1/keys"):
        body = json.loads(bytes(problem_response(problem, scope(path)).body))
        assert (body["status"], body["title"]) == (503, "Database unavailable")
        assert body["code"] == "database-unavailable"


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/chat/completions"])
def test_both_shapes_are_whole(error: type[errors.PipelineError], path: str) -> None:
    problem = error_bodies.from_error(make(error), job_id="job_1")
    response = problem_response(problem, scope(path))
    body = json.loads(bytes(response.body))
    if path == "/v1/jobs":
        assert body["status"] == response.status_code
        assert body["code"] == error.code
        assert body["type"].endswith(error.code)
        assert body["instance"] == "/v1/jobs/job_1"
        assert body["request_id"] == "r1"
    else:
        assert set(body["error"]) == {
            *("message", "type", "param", "code", "job_id", "request_id"),
            *(["budget"] if error is errors.BudgetExceeded else []),
        }
        assert "-" not in body["error"]["code"]
    if response.status_code in (429, 503):
        assert int(response.headers["retry-after"]) >= 1
    assert response.headers["x-penstock-job"] == "job_1"


def test_retry_after_is_rounded_up() -> None:
    problem = error_bodies.from_error(errors.QueueFull("full", retry_after_seconds=1.2))
    assert problem.retry_after == 2


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_a_recorded_error_reads_like_the_raised_one(error: type[errors.PipelineError]) -> None:
    raised = make(error)
    recorded = error_bodies.from_record(raised.as_dict(), "job_1")
    fresh = error_bodies.from_error(raised, job_id="job_1")
    assert recorded.code == fresh.code
    assert recorded.detail == fresh.detail
    assert recorded.kind.status == fresh.kind.status
    assert recorded.headers == {"X-Should-Retry": "false"}


def test_a_record_of_an_unknown_code_still_reads() -> None:
    problem = error_bodies.from_record({"code": "from-the-future", "message": "?"}, "job_1")
    assert (problem.kind.status, problem.code) == (500, "from-the-future")
    assert error_bodies.from_record({}, "job_1").kind.status == 500


def test_a_cancelled_job_is_a_conflict() -> None:
    problem = error_bodies.from_ending(Status.CANCELLED, None, "job_1")
    assert (problem.kind.status, problem.code) == (409, "job-cancelled")


def test_framework_errors_get_codes_of_their_own() -> None:
    problem = from_http(HTTPException(405, headers={"Allow": "GET"}))
    assert (problem.code, problem.headers["Allow"]) == ("method-not-allowed", "GET")
    assert from_http(HTTPException(503)).retry_after


def test_an_unknown_exception_says_nothing() -> None:
    assert error_bodies.internal().as_problem()["status"] == 500


@pytest.mark.parametrize(
    ("path", "openai"),
    [
        ("/v1/chat/completions", True),
        ("/v1/completions", True),
        ("/v1/models/x", True),
        ("/v1/embeddings", True),
        ("/v1/messages", True),
        ("/v1/messages/x", True),
        ("/v1/keystone", True),
        ("/v1/accounting", True),
        ("/v1/jobs", False),
        ("/v1/jobs/x", False),
        ("/v1/me", False),
        ("/v1/me/password", False),
        ("/v1/accounts/x", False),
        ("/v1/generate/stream", False),
        ("/v1/dead-letter", False),
        ("/ready", False),
    ],
)
def test_the_path_decides_the_shape(path: str, openai: bool) -> None:
    assert is_openai_path(path) is openai


def test_the_documentation_lists_every_code() -> None:
    page = (Path(__file__).parents[3] / "docs" / "wire-format.md").read_text()
    abstract = {errors.ClientError, errors.Overloaded}
    for error in ALL:
        if error not in abstract:
            assert f"`{error.code}`" in page, error.code
