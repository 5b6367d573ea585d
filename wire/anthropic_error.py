"""The error object of Anthropic's API."""

from typing import Any

from wire.error_bodies import Problem

TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def anthropic_error(problem: Problem, request_id: str | None) -> dict[str, Any]:
    """Build the object that Anthropic's clients turn into an exception.

    Args:
        problem: The error.
        request_id: The request on which it happened.
    """
    status = problem.openai_status
    kind = TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    error = {"type": kind, "message": problem.detail, "code": problem.code, "param": problem.param}
    return {"type": "error", "error": error, "request_id": request_id or problem.request_id}
