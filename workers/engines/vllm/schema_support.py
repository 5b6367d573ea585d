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
NAMED = ("properties", "patternProperties", "$defs", "definitions")


def refuse_unenforced(params: SamplingParams, body: dict[str, Any]) -> None:
    """Refuse a request whose JSON schema would not be enforced.

    Raises:
        InvalidJob: The schema uses such a keyword; `param` is the field that holds the schema.
    """
    outputs = params.structured_outputs
    if outputs is None or not outputs.json:
        return
    schema = outputs.json
    if isinstance(schema, str):
        try:
            schema = orjson.loads(schema)
        except orjson.JSONDecodeError:
            return  # the backend's own check refuses it
    keyword = unenforced(schema)
    if keyword is not None:
        text = f"the JSON schema cannot be enforced because of {keyword}"
        raise InvalidJob(text, param=grammar_field(body))


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
