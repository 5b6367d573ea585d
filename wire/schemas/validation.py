"""Reads request bodies: bounded, UTF-8, JSON, an object, then a schema.

Invariant: every refusal names the field and what was expected, and never repeats the value.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from wire.errors import FieldError, InvalidBody, MalformedBody, UnsupportedParameter

Schema = TypeVar("Schema", bound=BaseModel)

#: The type of an error that is about what OpenAI has and no engine here can do.
UNSUPPORTED = "unsupported"

PLAIN = {
    "missing": "this field is required",
    "extra_forbidden": "this field is not known here",
    "union_tag_not_found": "this field is required",
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
        raise MalformedBody("the body is empty: a JSON object was expected")
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise MalformedBody(f"the body is not JSON in UTF-8: {_where(error)}") from None
    if not isinstance(value, dict):
        raise MalformedBody(f"the body is a JSON {_json_type(value)}: an object was expected")
    return value


def _where(error: orjson.JSONDecodeError) -> str:
    return f"{error.msg}, line {error.lineno} column {error.colno}"


def _json_type(value: object) -> str:
    names = {list: "array", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")


def check(schema: type[Schema], value: Any, *root: str) -> Schema:
    """Validate a value; `root` is where it stands in the body.

    Raises:
        InvalidBody: naming every wrong field; UnsupportedParameter where no engine can do it.
    """
    try:
        return schema.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        unsupported = any(one["type"] == UNSUPPORTED for one in found)
        kind = UnsupportedParameter if unsupported else InvalidBody
        raise kind(field_errors(found, value, root)) from None


def field_errors(
    found: Sequence[Mapping[str, Any]], value: Any, root: Sequence[str] = ()
) -> list[FieldError]:
    """Turn pydantic's errors into ours, one per field."""
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
    """Return whether an error says more than one above it: a union's other members."""
    return len(path) > len(other) and path[: len(other)] == other


def _text(error: Mapping[str, Any], context: Mapping[str, Any]) -> str:
    """Say what was expected, without what was sent."""
    if "expected_tags" in context:
        return f"one of {context['expected_tags']} is expected"
    return PLAIN.get(error["type"], str(error["msg"]))


def _path(loc: Sequence[str | int], value: Any, *, missing: bool) -> list[str | int]:
    """Leave out of an error's location what is no part of the value: names of union members."""
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
