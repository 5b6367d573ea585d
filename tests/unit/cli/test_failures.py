"""The CLI shows the server's own error message, from either error shape."""

import pytest

from cli.terminal.failures import Failure, Refused, Unreachable, UsageError


def test_problem_document_gives_title_detail_field_and_when_to_come_back() -> None:
    body = {
        "title": "Queue full",
        "detail": "200000 jobs wait",
        "param": "model",
        "retry_after": 7,
    }

    failure = Refused(429, body)

    assert failure.title == "Queue full (HTTP 429)"
    assert failure.advice == ("200000 jobs wait", "field: model", "try again in 7 s")


def test_one_wrong_field_is_named_and_several_are_listed() -> None:
    one = [{"pointer": "/body/n", "message": "too large"}]
    two = [*one, {"pointer": "/body/top_p", "message": "too small"}]

    assert Refused(422, {"title": "t", "errors": one, "param": "n"}).advice == ("field: /body/n",)
    assert Refused(422, {"title": "t", "errors": two}).advice == (
        "field /body/n: too large",
        "field /body/top_p: too small",
    )
    assert Refused(422, {"title": "t", "errors": two, "more_errors": 5}).advice[-1] == (
        "5 more errors"
    )


def test_openai_error_is_understood() -> None:
    error = {"message": "no such model", "type": "invalid_request_error", "code": "model_not_found"}

    failure = Refused(404, {"error": {**error, "param": "model"}})

    assert failure.title == "model_not_found (HTTP 404)"
    assert failure.advice == ("no such model", "field: model")


@pytest.mark.parametrize(("body", "advice"), [("<html>", ("<html>",)), ("", ()), ([1], ("[1]",))])
def test_what_is_no_problem_document_is_shown_as_it_is(body: object, advice: object) -> None:
    failure = Refused(502, body)

    assert failure.title == "HTTP 502"
    assert failure.advice == advice


def test_exit_codes_are_the_documented_ones() -> None:
    assert Failure("").exit_code == 1
    assert Refused(500, "").exit_code == 1
    assert UsageError("").exit_code == 2
    assert Unreachable("").exit_code == 3
