"""Limits on JSON schemas: their size, depth, parts, values and patterns.

Invariant: each node of a schema is visited once, without recursion, so that no schema takes more
than time in proportion to its size.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from core.errors import InvalidJob
from core.settings.complexity import ComplexitySettings
from intake.request_limits.limit import check_limit
from intake.request_limits.patterns import check_pattern

#: Keywords whose value is a schema, a list of schemas, or a map of schemas.
ONE = frozenset(
    {
        *("items", "additionalProperties", "additionalItems", "contains", "not", "if", "then"),
        *("else", "propertyNames", "unevaluatedItems", "unevaluatedProperties"),
    }
)
SEVERAL = frozenset({"anyOf", "oneOf", "allOf", "prefixItems", "items"})
BY_NAME = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
NUMBER_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
REPETITIONS = (
    *("minLength", "maxLength", "minItems", "maxItems"),
    *("minProperties", "maxProperties", "minContains", "maxContains"),
)


class SchemaCount:
    """What several schemas of one request have together."""

    def __init__(self, limits: ComplexitySettings) -> None:
        self._limits = limits
        self._parts = self._enum_values = self._bounded = 0

    def add(self, field: str, schema: Any) -> None:
        """Count a schema.

        Args:
            field: The client's field.
            schema: The schema as parsed JSON.

        Raises:
            InvalidJob: naming the field, the limit and what was given.
        """
        limits = self._limits
        check_limit(field, json_depth(schema), limits.schema_depth, "nested objects and arrays")
        check_limit(field, json_bytes(schema), limits.schema_bytes, "bytes of JSON schema")
        for part in subschemas(schema):
            self._parts += 1
            self._count(field, part)
        unit = "properties, items and alternatives in a JSON schema"
        check_limit(field, self._parts, limits.schema_parts, unit)
        unit = "values of enums in a JSON schema"
        check_limit(field, self._enum_values, limits.schema_enum_values, unit)
        unit = "bounded numbers and strings in a JSON schema"
        check_limit(field, self._bounded, limits.schema_bounded_values, unit)

    def _count(self, field: str, schema: Mapping[str, Any]) -> None:
        enum = schema.get("enum")
        if isinstance(enum, list):
            self._enum_values += len(enum)
        if any(name in schema for name in (*NUMBER_BOUNDS, "minLength", "maxLength")):
            self._bounded += 1
        pattern = schema.get("pattern")
        if isinstance(pattern, str):
            check_pattern(field, pattern, self._limits)
        by_pattern = schema.get("patternProperties")
        if isinstance(by_pattern, Mapping):
            for pattern in by_pattern:
                check_pattern(field, pattern, self._limits)
        for name in REPETITIONS:
            number = schema.get(name)
            if isinstance(number, int | float) and number > self._limits.pattern_repetitions:
                limit = self._limits.pattern_repetitions
                text = f"expected at most {limit} for {name} in a JSON schema, got {number}"
                raise InvalidJob(f"{field}: {text}", param=field)


def subschemas(schema: Any) -> Iterator[Mapping[str, Any]]:
    """Yield a schema and all schemas within it; `true` and `false` are none."""
    left = [schema]
    while left:
        value = left.pop()
        if isinstance(value, Mapping):
            yield value
            left.extend(children(value))


def children(schema: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the schemas directly within a schema."""
    for name, value in schema.items():
        if name in BY_NAME and isinstance(value, Mapping):
            yield from value.values()
        elif name in SEVERAL and isinstance(value, list):
            yield from value
        elif name in ONE:
            yield value


def json_depth(value: Any) -> int:
    """Return how deep objects and arrays are nested; 0 for anything else."""
    deepest, left = 0, [(value, 1)]
    while left:
        one, depth = left.pop()
        if isinstance(one, Mapping):
            inner: Any = one.values()
        elif isinstance(one, list):
            inner = one
        else:
            continue
        deepest = max(deepest, depth)
        left.extend((item, depth + 1) for item in inner)
    return deepest


def json_bytes(value: Any) -> int:
    """Return the length of a value's JSON; the value must not be nested deeper than 200."""
    return len(orjson.dumps(value))
