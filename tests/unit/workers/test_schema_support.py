"""Which JSON schemas are refused because xgrammar would not enforce them."""

from typing import Any

import pytest

pytest.importorskip("vllm")

from workers.engines.vllm.schema_support import unenforced

STRING = {"type": "string"}


@pytest.mark.parametrize(
    ("schema", "keyword"),
    [
        ({"allOf": [STRING, {"enum": ["up"]}]}, "`allOf` with several schemas"),
        ({"type": "object", "properties": {"a": {"not": STRING}}}, "`not`"),
        ({"type": "array", "items": {"if": STRING, "then": STRING}}, "`if`"),
        ({"$defs": {"a": {"dependentRequired": {"a": ["b"]}}}}, "`dependentRequired`"),
        ({"anyOf": [STRING], "properties": {}}, "`properties` beside `anyOf`"),
        ({"anyOf": [STRING], "oneOf": [STRING]}, "`oneOf` beside `anyOf`"),
        ({"$ref": "#/$defs/a", "maxLength": 2}, "`maxLength` beside `$ref`"),
    ],
)
def test_ignored_keywords_are_found_at_any_depth(schema: dict[str, Any], keyword: str) -> None:
    assert unenforced(schema) == keyword


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"not": STRING, "if": STRING, "allOf": STRING}},
        {"type": "object", "anyOf": [STRING, {"type": "null"}], "title": "t", "default": None},
        {"allOf": [{"$ref": "#/$defs/a"}], "description": "d", "$defs": {"a": STRING}},
        {"enum": [{"not": 1}]},
        True,
    ],
)
def test_names_and_annotations_are_no_keywords(schema: Any) -> None:
    assert unenforced(schema) is None
