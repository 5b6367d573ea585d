"""What the OpenAPI document says: bodies are read by hand, so they are described by hand."""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.openapi.document import complete

REF = "#/components/schemas/{model}"
#: Filled by `body_of`.
BODIES: dict[str, type[BaseModel]] = {}

Responses = dict[int | str, dict[str, Any]]

PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "code": {"type": "string"},
        "param": {"type": "string"},
        "request_id": {"type": "string"},
        "job_id": {"type": "string"},
        "retry_after": {"type": "integer"},
        "errors": {"type": "array", "items": {"type": "object"}},
    },
}
KEY = {
    "type": "http",
    "scheme": "bearer",
    "description": "an API key, `pk_...`, or the access token of a person who signed in",
}


def body_of(schema: type[BaseModel]) -> dict[str, Any]:
    """Describe a route's body."""
    BODIES[schema.__name__] = schema
    ref = {"$ref": REF.format(model=schema.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": ref}}}}


def multipart_of(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    """Describe a route's form."""
    schema = {"type": "object", "properties": properties, "required": required}
    content = {"multipart/form-data": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


def refusals(*statuses: int) -> Responses:
    """Describe the errors a route may answer with."""
    ref = {"$ref": REF.format(model="Problem")}
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {"application/problem+json": {"schema": ref}},
        }
        for status in statuses
    }


def job_answer(*statuses: int) -> Responses:
    """Describe an answer that is a job object."""
    ref = {"$ref": REF.format(model="Job")}
    return {
        status: {"description": "the job", "content": {"application/json": {"schema": ref}}}
        for status in statuses
    }


def listed() -> Responses:
    """Describe an answer that is a page of jobs."""
    items = {"type": "array", "items": {"$ref": REF.format(model="Job")}}
    schema = {"type": "object", "properties": {"data": items, "has_more": {"type": "boolean"}}}
    return {200: {"description": "a page", "content": {"application/json": {"schema": schema}}}}


def event_stream() -> Responses:
    """Describe an answer that is a stream of events."""
    content: dict[str, Any] = {"text/event-stream": {}, "application/json": {}}
    return {200: {"description": "the answer, whole or streamed", "content": content}}


def describe(app: FastAPI) -> None:
    """Have the application's OpenAPI document include the bodies."""

    def build() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes
            )
            _, bodies = models_json_schema(
                [(model, "validation") for model in BODIES.values()], ref_template=REF
            )
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas.update(bodies["$defs"], Problem=PROBLEM)
            document["components"]["securitySchemes"] = {"key": KEY}
            complete(document)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = build  # type: ignore[method-assign]
