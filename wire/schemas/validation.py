"""Parses and validates request bodies: a JSON object in UTF-8, then a schema.

Invariant: every error names the field and what was expected, and never repeats the value.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from wire.errors import FieldError, InvalidBody, MalformedBody, UnsupportedParameter
from wire.schemas.leniency import effective_body

Schema = TypeVar("Schema", bound=BaseModel)

#: Error type of a parameter that OpenAI supports and our engines do not.
UNSUPPORTED = "unsupported"

PLAIN = {
    "missing": "required field",
    "extra_forbidden": "unknown field",
    "union_tag_not_found": "required field",
}


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
        InvalidBody: The value does not match; `fields` has one entry per wrong field.
    """
    try:
        return schema.model_validate(value, strict=strict)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        unsupported = any(one["type"] == UNSUPPORTED for one in found)
        kind = UnsupportedParameter if unsupported else InvalidBody
        raise kind(field_errors(found, value, root)) from None


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


def field_errors(
    found: Sequence[Mapping[str, Any]], value: Any, root: Sequence[str] = ()
) -> list[FieldError]:
    """Convert pydantic's errors into ours, one per field.

    Args:
        found: The errors as `ValidationError.errors()` returns them.
        value: The value that was validated; tells fields from names of union members.
        root: Path from the body to the value.

    Returns:
        One error per field. An error below another one is left out.
    """
    messages: dict[tuple[str | int, ...], list[str]] = {}
    for error in found:
        context = error.get("ctx", {})
        about = context.get("field", context.get("discriminator"))
        missing = error["type"] == "missing"
        path = (*root, *_path(error["loc"], value, missing=missing))
        if about:
            path = (*path, about.strip("'"))
        text = _text(error, context)
        known = messages.setdefault(path, [])
        if text not in known:
            known.append(text)
    return [
        FieldError(_pointer(path), _dotted(path), ", or: ".join(texts))
        for path, texts in messages.items()
        if not any(_is_below(other, path) for other in messages)
    ]


def _is_below(path: tuple[str | int, ...], other: tuple[str | int, ...]) -> bool:
    """Return whether an error is nested below another: it is about another union member."""
    return len(path) > len(other) and path[: len(other)] == other


def _text(error: Mapping[str, Any], context: Mapping[str, Any]) -> str:
    """Describe what was expected, without the value that was sent."""
    if "expected_tags" in context:
        return f"expected one of {context['expected_tags']}"
    return PLAIN.get(error["type"], str(error["msg"]))


def _path(loc: Sequence[str | int], value: Any, *, missing: bool) -> list[str | int]:
    """Drop the names of union members from an error's location: the value has no such parts."""
    path: list[str | int] = []
    for index, part in enumerate(loc):
        in_list = isinstance(value, list) and isinstance(part, int) and part < len(value)
        if in_list or (isinstance(value, dict) and part in value):
            path.append(part)
            value = value[part]
        elif missing and index == len(loc) - 1:
            path.append(part)
    return path


def _pointer(path: Sequence[str | int]) -> str:
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _dotted(path: Sequence[str | int]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.lstrip(".") or "body"
