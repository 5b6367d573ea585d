"""Parses and validates request bodies: a JSON object in UTF-8, then a schema.

Invariant: every error names the field and what was expected, and never repeats the value.
"""

from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from wire.errors import InvalidBody, MalformedBody, UnsupportedParameter
from wire.schemas.field_errors import wrong_fields
from wire.schemas.leniency import effective_body

Schema = TypeVar("Schema", bound=BaseModel)


def parse_object(raw: bytes) -> dict[str, Any]:
    """Parse a request body that must be a JSON object.

    Args:
        raw: The body as it was received.

    Returns:
        The object.

    Raises:
        MalformedBody: The body is empty, not UTF-8, not JSON, or JSON of another type.
    """
    if not raw:
        raise MalformedBody("The body is empty; expected a JSON object")
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise MalformedBody(f"The body is not valid JSON in UTF-8: {_where(error)}") from None
    if not isinstance(value, dict):
        raise MalformedBody(f"The body is a JSON {_json_type(value)}; expected an object")
    return value


def _where(error: orjson.JSONDecodeError) -> str:
    return f"{error.msg}, line {error.lineno} column {error.colno}"


def _json_type(value: object) -> str:
    names = {list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")


def check(schema: type[Schema], value: Any, *root: str, strict: bool | None = None) -> Schema:
    """Validate a parsed value.

    Args:
        schema: The model to validate against.
        value: The parsed JSON.
        root: Path from the body to the value, for the field names in errors.
        strict: False to accept numbers as text; None for what the schema says.

    Returns:
        The validated model.

    Raises:
        UnsupportedParameter: At least one field is part of OpenAI's API but not supported here.
        InvalidBody: The value does not match; `fields` has the first wrong fields, `more`
            says how many there are besides.
    """
    try:
        return schema.model_validate(value, strict=strict)
    except ValidationError as error:
        wrong = wrong_fields(error, schema, value, root, strict=strict)
    kind = UnsupportedParameter if wrong.unsupported else InvalidBody
    raise kind(wrong.fields, wrong.more)


def check_request(schema: type[Schema], body: Any, *root: str) -> tuple[Schema, dict[str, Any]]:
    """Validate the body of a request to a model, as leniently as vLLM's server does.

    Args:
        schema: The model to validate against.
        body: The body as the client sent it.
        root: Path from the request's body to this one, for the field names in errors.

    Returns:
        The validated model, and the body without what has no effect, with numbers as numbers.

    Raises:
        UnsupportedParameter, InvalidBody: as `check`.
    """
    checked = check(schema, body, *root, strict=False)
    return checked, effective_body(checked, body)
