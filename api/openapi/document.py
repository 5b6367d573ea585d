"""Completes the OpenAPI document with the errors, schemas and examples of all routes.

Invariant: every error of a route is declared in the format of that route (RFC 9457, or OpenAI's on
OpenAI's routes), also for routes that are added later.
"""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from api.http.error_handlers import is_anthropic_path, is_openai_path
from api.openapi.descriptions import add_descriptions
from api.openapi.examples import ANSWERS, OPENAI_ERROR, PROBLEM_EXAMPLE, REQUESTS
from api.openapi.object_schemas import SCHEMAS
from intake.permissions import TABLE

REF = "#/components/schemas/{model}"
RESPONSE = "#/components/responses/"

#: Error statuses of every route that needs a key, and those of routes that read a body.
EVERYWHERE = (401, 403, 429, 500, 503)
WITH_BODY = (400, 408, 413)

HEADERS = {
    401: {"WWW-Authenticate": {"schema": {"type": "string"}}},
    429: {"Retry-After": {"schema": {"type": "integer", "minimum": 1}}},
    503: {"Retry-After": {"schema": {"type": "integer", "minimum": 1}}},
}

#: FastAPI's own schemas of validation errors; the API does not use them.
FASTAPI_SCHEMAS = ("HTTPValidationError", "ValidationError")


def complete(document: dict[str, Any]) -> None:
    """Add errors, schemas and examples to a document in place."""
    schemas = document["components"]["schemas"]
    schemas.update(SCHEMAS)
    for name, example in (("Problem", PROBLEM_EXAMPLE), ("OpenAiError", OPENAI_ERROR)):
        schemas[name] = {**schemas[name], "examples": [example]}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            _complete(method.upper(), path, operation)
            for name, status in _referenced_errors(operation["responses"]):
                document["components"].setdefault("responses", {})[name] = _error(name, status)
    for name in FASTAPI_SCHEMAS:
        schemas.pop(name, None)
    add_descriptions(document)


def _complete(method: str, path: str, operation: dict[str, Any]) -> None:
    responses = operation["responses"]
    if path.startswith("/v1/") or is_openai_path(path):
        access = TABLE.get(f"{method} {path}")
        public = access is not None and access.public
        if not public:
            operation["security"] = [{"key": []}]
        for status in _errors(path, operation, public=public):
            responses[str(status)] = {}
    model = "OpenAiError" if is_openai_path(path) else "Problem"
    if is_anthropic_path(path):
        model = "AnthropicError"
    for status in [status for status in responses if int(status) >= 400]:
        responses[status] = {"$ref": f"{RESPONSE}{model}{status}"}
    _add_examples(operation, method, path)
    operation["responses"] = dict(sorted(responses.items()))


def _errors(path: str, operation: dict[str, Any], *, public: bool) -> set[int]:
    """Return the error statuses that a route has without declaring them."""
    found = {status for status in EVERYWHERE if not public or status >= 429}
    responses = operation["responses"]
    has_body, has_fields = "requestBody" in operation, bool(operation.get("parameters"))
    if has_body:
        found.update(WITH_BODY)
    if is_openai_path(path):
        # There, invalid fields are 400 and deleted jobs 404, as OpenAI's clients expect.
        if responses.pop("410", None):
            found.add(404)
        if _is_fastapi_error(responses.get("422", {})):
            del responses["422"]
        if has_fields:
            found.add(400)
    elif has_body or has_fields:
        found.add(422)
    return found


def _is_fastapi_error(response: dict[str, Any]) -> bool:
    schema = response.get("content", {}).get("application/json", {}).get("schema", {})
    return str(schema.get("$ref", "")).endswith(FASTAPI_SCHEMAS[0])


def _referenced_errors(responses: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield name and status of each error response that is referred to."""
    for status, described in responses.items():
        if "$ref" in described:
            yield described["$ref"].removeprefix(RESPONSE), int(status)


def _error(name: str, status: int) -> dict[str, Any]:
    model = name.removesuffix(str(status))
    media = "application/problem+json" if model == "Problem" else "application/json"
    described: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "content": {media: {"schema": {"$ref": REF.format(model=model)}}},
    }
    if status in HEADERS:
        described["headers"] = HEADERS[status]
    return described


def _add_examples(operation: dict[str, Any], method: str, path: str) -> None:
    """Add the examples of the request body and the response."""
    body = operation.get("requestBody", {}).get("content", {}).get("application/json")
    if body is not None:
        name = body["schema"].get("$ref", "").rpartition("/")[2]
        if name in REQUESTS:
            body["examples"] = {key: {"value": value} for key, value in REQUESTS[name].items()}
    answer = ANSWERS.get(f"{method} {path}")
    if answer is None:
        return
    model, example = answer
    for status, described in operation["responses"].items():
        if status in ("200", "201", "202") and "application/json" in described.get("content", {}):
            known = described["content"]["application/json"].get("schema") or {}
            if not known or status == "200":
                described["content"]["application/json"] = {
                    "schema": {"$ref": REF.format(model=model)},
                    "example": example,
                }
