"""Describes for clients what is wrong with a value: at most ten fields, then a count.

Invariant: the time is in proportion to the value, however many errors it has, and an answer never
repeats the value. Names that the client chose are cut.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from wire.errors import FieldError

#: Error type of a parameter that OpenAI supports and our engines do not.
UNSUPPORTED = "unsupported"

SHOWN = 10
#: pydantic needs about 3 µs and 1 kB to describe one error, and describes all or none.
DESCRIBED = 1000
#: Items of each list and object that are validated again if there are more errors than that.
WIDTHS = (100, 10)
DEPTH = 8
NAME_CHARACTERS = 128

PLAIN = {
    "missing": "required field",
    "extra_forbidden": "unknown field",
    "union_tag_not_found": "required field",
}

Path = tuple[str | int, ...]


class WrongFields(NamedTuple):
    """What is wrong: some of the fields, how many more there are, and the kind of all."""

    fields: list[FieldError]
    more: int
    unsupported: bool = False


def wrong_fields(
    error: ValidationError,
    schema: type[BaseModel],
    value: Any,
    root: Sequence[str],
    *,
    strict: bool | None,
) -> WrongFields:
    """Describe why a value does not match its schema.

    Args:
        error: What the validation raised.
        schema: The model.
        value: The value.
        root: Path from the body to the value.
        strict: How the value was validated.

    Returns:
        At least one field. If there are very many errors, those of the first items of each list
        and object, or the value itself; then `more` counts errors, not fields.
    """
    count = error.error_count()
    if count <= DESCRIBED:
        return of_fields(_described(error), value, root)
    for width in WIDTHS:
        found = _errors_of_part(schema, _cut(value, width, DEPTH), strict=strict)
        found = [one for one in found if not _is_missing_in_part(one, value)]
        if found:
            fields, _, unsupported = of_fields(found, value, root)
            return WrongFields(fields, count - len(fields), unsupported)
    whole = FieldError(_pointer(root), _dotted(root), "too many errors to list")
    return WrongFields([whole], count - 1)


def of_fields(
    found: Iterable[Mapping[str, Any]], value: Any, root: Sequence[str] = ()
) -> WrongFields:
    """Convert pydantic's errors into ours, one per field.

    Args:
        found: The errors as `ValidationError.errors()` returns them.
        value: The value that was validated; tells fields from names of union members.
        root: Path from the body to the value.

    Returns:
        One error per field. An error above another one is left out: it is about another member of a
        union.
    """
    messages: dict[Path, dict[str, None]] = {}
    unsupported = False
    for error in found:
        context = error.get("ctx", {})
        about = context.get("field", context.get("discriminator"))
        missing = error["type"] == "missing"
        path = (*root, *_path(error["loc"], value, missing=missing))
        if about:
            path = (*path, about.strip("'"))
        messages.setdefault(path, {})[_text(error, context)] = None
        unsupported = unsupported or error["type"] == UNSUPPORTED
    above = {path[:length] for path in messages for length in range(len(path))}
    deepest = {path: texts for path, texts in messages.items() if path not in above}
    fields = [
        FieldError(_pointer(path), _dotted(path), ", or: ".join(texts))
        for path, texts in islice(deepest.items(), SHOWN)
    ]
    return WrongFields(fields, len(deepest) - len(fields), unsupported)


def _described(error: ValidationError) -> list[Any]:
    return list(error.errors(include_url=False, include_input=False))


def _errors_of_part(schema: type[BaseModel], part: Any, *, strict: bool | None) -> list[Any]:
    try:
        schema.model_validate(part, strict=strict)
    except ValidationError as error:
        return _described(error) if error.error_count() <= DESCRIBED else []
    return []


def _cut(value: Any, width: int, depth: int) -> Any:
    """Return the first items of each list and object; places in lists stay the same."""
    if depth and isinstance(value, list):
        return [_cut(item, width, depth - 1) for item in value[:width]]
    if depth and isinstance(value, dict):
        first = islice(value.items(), width)
        return {name: _cut(item, width, depth - 1) for name, item in first}
    return value


def _is_missing_in_part(error: Mapping[str, Any], value: Any) -> bool:
    """Return whether the error is about a field that the whole value has."""
    path = _path(error["loc"], value, missing=False)
    return error["type"] == "missing" and path[-1:] == [error["loc"][-1]]


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
    return "".join("/" + _name(part).replace("~", "~0").replace("/", "~1") for part in path)


def _dotted(path: Sequence[str | int]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{_name(part)}"
    return text.lstrip(".") or "body"


def _name(part: str | int) -> str:
    """Cut a name that the client chose."""
    name = str(part)
    return name if len(name) <= NAME_CHARACTERS else name[:NAME_CHARACTERS] + "…"
