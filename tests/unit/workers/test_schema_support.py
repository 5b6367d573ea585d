"""Which JSON schemas are refused because xgrammar would not enforce them."""

import json
from typing import Any

import pytest

pytest.importorskip("vllm")

from vllm.sampling_params import SamplingParams, StructuredOutputsParams

from core.errors import InvalidJob
from workers.engines.vllm.schema_support import refuse_unenforced, unenforced

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


@pytest.mark.parametrize(
    "tag",
    [
        {"format": {"type": "json_schema", "json_schema": {"not": STRING}}},
        {
            "format": {
                "type": "sequence",
                "elements": [{"tags": [{"json_schema": {"not": STRING}}]}],
            }
        },
        {"structures": [{"begin": "a", "schema": {"not": STRING}, "end": "b"}], "triggers": ["a"]},
    ],
)
def test_schemas_in_a_structural_tag_are_checked_too(tag: dict[str, Any]) -> None:
    text = json.dumps(tag)
    wanted = SamplingParams(structured_outputs=StructuredOutputsParams(structural_tag=text))
    hidden = SamplingParams(structured_outputs=StructuredOutputsParams(structural_tag="{}"))
    for params, taken in ((wanted, None), (hidden, text)):
        with pytest.raises(InvalidJob, match="cannot be enforced because of `not`"):
            refuse_unenforced(params, {"response_format": {}}, taken)
