"""Describes request bodies and responses for the OpenAPI document.

Routes read their bodies without FastAPI, so FastAPI cannot derive the descriptions.
"""

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.openapi.document import complete
from wire.schemas.field_errors import SHOWN

REF = "#/components/schemas/{model}"
#: Schemas of request bodies by name; filled by `body_of`.
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
        "trace_id": {"type": "string"},
        "job_id": {"type": "string"},
        "retry_after": {"type": "integer"},
        "errors": {"type": "array", "items": {"type": "object"}, "maxItems": SHOWN},
        "more_errors": {"type": "integer"},
    },
}
KEY = {
    "type": "http",
    "scheme": "bearer",
    "description": "an API key (`pk_...`) or the access token of a signed-in user",
}


def body_of(schema: type[BaseModel]) -> dict[str, Any]:
    """Describe a JSON request body."""
    BODIES[schema.__name__] = schema
    ref = {"$ref": REF.format(model=schema.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": ref}}}}


def multipart_of(properties: dict[str, Any], required: list[str]) -> dict[str, Any]:
    """Describe a multipart form."""
    schema = {"type": "object", "properties": properties, "required": required}
    content = {"multipart/form-data": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


def error_responses(*statuses: int) -> Responses:
    """Describe the error responses of a route."""
    ref = {"$ref": REF.format(model="Problem")}
    return {
        status: {
            "description": HTTPStatus(status).phrase,
            "content": {"application/problem+json": {"schema": ref}},
        }
        for status in statuses
    }


def job_responses(*statuses: int) -> Responses:
    """Describe a response with a job object."""
    ref = {"$ref": REF.format(model="Job")}
    return {
        status: {"description": "the job", "content": {"application/json": {"schema": ref}}}
        for status in statuses
    }


def job_page_responses() -> Responses:
    """Describe a response with a page of jobs."""
    items = {"type": "array", "items": {"$ref": REF.format(model="Job")}}
    schema = {"type": "object", "properties": {"data": items, "has_more": {"type": "boolean"}}}
    return {
        200: {"description": "a page of jobs", "content": {"application/json": {"schema": schema}}}
    }


def stream_responses() -> Responses:
    """Describe a response that can be an event stream."""
    content: dict[str, Any] = {"text/event-stream": {}, "application/json": {}}
    return {200: {"description": "the result, complete or as an event stream", "content": content}}


def describe(app: FastAPI) -> None:
    """Make the application's OpenAPI document include bodies, errors and examples."""

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
