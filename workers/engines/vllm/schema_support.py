"""Refuses JSON schemas that the grammar backend would accept and not enforce.

xgrammar ignores some keywords without an error, so an answer could break its schema and the client
would not know. Invariant: property names are never read as keywords.
"""

from collections.abc import Iterator
from typing import Any

import orjson
from vllm.sampling_params import SamplingParams

from core.errors import InvalidJob

#: Keywords that xgrammar ignores.
IGNORED = ("not", "if", "then", "else", "dependentRequired", "dependentSchemas", "dependencies")
#: Beside these, xgrammar ignores keywords that constrain the same value.
ALTERNATIVES = ("anyOf", "oneOf", "allOf", "$ref")
CONSTRAINTS = (
    *("properties", "required", "patternProperties", "additionalProperties", "propertyNames"),
    *("minProperties", "maxProperties", "items", "prefixItems", "minItems", "maxItems"),
    *("enum", "const", "pattern", "format", "minLength", "maxLength"),
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
)
#: Keywords whose value is a schema, a list of schemas, or schemas by name.
ONE = ("items", "additionalProperties", "propertyNames", "unevaluatedProperties")
LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
#: Fields of a structural tag that hold a schema.
TAG_SCHEMAS = ("json_schema", "schema")
NAMED = ("properties", "patternProperties", "$defs", "definitions")


def refuse_unenforced(params: SamplingParams, body: dict[str, Any], hidden: str | None) -> None:
    """Refuse a request whose JSON schemas would not be enforced.

    Args:
        params: vLLM's parameters.
        body: The request.
        hidden: The structural tag that `hide_structural_tag` took out of it.

    Raises:
        InvalidJob: A schema uses such a keyword; `param` is the field that holds the schema.
    """
    outputs = params.structured_outputs
    if outputs is None:
        return
    for schema in _schemas(outputs.json, hidden or outputs.structural_tag):
        keyword = unenforced(schema)
        if keyword is not None:
            text = f"the JSON schema cannot be enforced because of {keyword}"
            raise InvalidJob(text, param=grammar_field(body))


def _schemas(schema: Any, tag: str | None) -> Iterator[Any]:
    """Yield the schema of a request, and all schemas in a structural tag."""
    if schema:
        yield _read(schema)
    waiting = [_read(tag)] if tag else []
    while waiting:
        found = waiting.pop()
        if isinstance(found, list):
            waiting += found
        elif isinstance(found, dict):
            for name, value in found.items():
                if name in TAG_SCHEMAS:
                    yield value
                else:
                    waiting.append(value)


def _read(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        return None  # the backend's own check refuses it


def unenforced(schema: Any) -> str | None:
    """Return what of a schema would be ignored; None if all of it is enforced."""
    waiting = [schema]
    while waiting:
        found = waiting.pop()
        if not isinstance(found, dict):
            continue
        for keyword in IGNORED:
            if keyword in found:
                return f"`{keyword}`"
        used = [keyword for keyword in ALTERNATIVES if keyword in found]
        beside = [keyword for keyword in CONSTRAINTS if keyword in found]
        if isinstance(found.get("allOf"), list) and len(found["allOf"]) > 1:
            return "`allOf` with several schemas"
        if len(used) > 1 or (used and beside):
            return f"`{(used + beside)[1]}` beside `{used[0]}`"
        waiting += _inner(found)
    return None


def grammar_field(body: dict[str, Any]) -> str:
    """Return the name of the request field from which a grammar is made."""
    fields = ("structured_outputs", "response_format")
    return next((name for name in fields if body.get(name)), "tools")


def _inner(schema: dict[str, Any]) -> Iterator[Any]:
    for keyword in ONE:
        if keyword in schema:
            yield schema[keyword]
    for keyword in LISTS:
        if isinstance(schema.get(keyword), list):
            yield from schema[keyword]
    for keyword in NAMED:
        if isinstance(schema.get(keyword), dict):
            yield from schema[keyword].values()
