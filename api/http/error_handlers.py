"""Turns errors into HTTP responses, in the format that the clients of each route expect.

Three formats: `application/problem+json` (RFC 9457) on our own routes, OpenAI's and Anthropic's
`{"error": ...}` on the routes of their APIs. Invariant: every error response has one of them, 429
and 503 carry `Retry-After`, and the text of an unexpected exception is never sent.
"""

from http import HTTPStatus

import orjson
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from core import tracing
from core.errors import PipelineError
from wire.anthropic_error import anthropic_error
from wire.error_bodies import RETRY_AFTER_SECONDS, ErrorKind, Problem, from_error
from wire.errors import AddressBusy, BodiesBusy, BodyTimeout, HeadersTimeout, InvalidBody
from wire.schemas.field_errors import of_fields

#: Errors after which the rest of the request is not worth waiting for.
CLOSING = frozenset(error.code for error in (HeadersTimeout, BodyTimeout, BodiesBusy, AddressBusy))

#: Paths of vLLM's server, whose clients expect OpenAI's format, too.
VLLM_PATHS = frozenset({"tokenize", "detokenize"})

#: First parts of our own paths; every other path below /v1/ is part of OpenAI's API.
OWN_PATHS = frozenset(
    {
        *("account", "accounts", "admin", "audit", "auth", "billing", "dead-letter", "generate"),
        *("jobs", "keys", "me", "usage", "users", "webhooks"),
    }
)


def add_error_handlers(app: FastAPI) -> None:
    """Make the application answer every expected error as a problem."""
    app.add_exception_handler(PipelineError, _answer)
    app.add_exception_handler(RequestValidationError, _answer)
    app.add_exception_handler(HTTPException, _answer)


async def _answer(request: Request, error: Exception) -> Response:
    match error:
        case PipelineError():
            problem = from_error(error)
        case RequestValidationError():
            problem = from_validation(error)
        case HTTPException():
            problem = from_http(error)
        case _:
            raise error
    return problem_response(problem, request.scope)


def from_http(error: HTTPException) -> Problem:
    """Describe an error of the framework, such as an unknown path or a wrong method."""
    phrase = HTTPStatus(error.status_code).phrase
    code = phrase.lower().replace(" ", "-").replace("'", "")
    kind = ErrorKind(error.status_code, phrase)
    retry_after = int(RETRY_AFTER_SECONDS) if error.status_code in (429, 503) else None
    return Problem(
        kind, code, str(error.detail), retry_after=retry_after, headers=error.headers or {}
    )


def from_validation(error: RequestValidationError) -> Problem:
    """Describe invalid path, query or header parameters."""
    found = [{**item, "loc": item["loc"][1:]} for item in error.errors()]
    wrong = of_fields(found, {item["loc"][0]: None for item in found})
    return from_error(InvalidBody(wrong.fields, wrong.more))


def is_openai_path(path: str) -> bool:
    """Return whether clients of this path expect OpenAI's error format."""
    _, version, first, *_ = f"{path}//".split("/", 3)
    return (version == "v1" and first not in OWN_PATHS) or version in VLLM_PATHS


def is_anthropic_path(path: str) -> bool:
    """Return whether clients of this path expect the error format of Anthropic's API."""
    return f"{path}/".startswith("/v1/messages/")


def problem_response(problem: Problem, scope: Scope) -> Response:
    """Render a problem in the format of the route on which it happened.

    Args:
        problem: The error to show.
        scope: The ASGI scope of the request; its path selects the format.

    Returns:
        The response with the problem's headers and, depending on its status, `Retry-After`,
        `WWW-Authenticate` or `Connection: close`.
    """
    request_id = scope.get("state", {}).get("request_id")
    headers = dict(problem.headers)
    if problem.retry_after is not None:
        headers["Retry-After"] = str(problem.retry_after)
    if problem.code in CLOSING:
        headers["Connection"] = "close"
    if problem.kind.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="penstock"'
    if problem.job_id:
        headers["X-Penstock-Job"] = problem.job_id
    if is_anthropic_path(scope["path"]):
        body = ids = anthropic_error(problem, request_id)
        status, media_type = problem.openai_status, "application/json"
    elif is_openai_path(scope["path"]):
        body = problem.as_openai()
        ids = body["error"]
        ids.setdefault("request_id", request_id)
        status, media_type = problem.openai_status, "application/json"
    else:
        body = ids = {**problem.as_problem(), "request_id": request_id}
        body.setdefault("instance", scope["path"])
        status, media_type = problem.kind.status, "application/problem+json"
    if (trace_id := tracing.trace_here()) is not None:
        ids["trace_id"] = trace_id
    return Response(orjson.dumps(body), status, headers, media_type)
