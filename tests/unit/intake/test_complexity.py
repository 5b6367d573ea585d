"""Each limit on a request's complexity: what is just within passes, what is just over names it."""

import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from core.errors import InvalidJob
from core.settings.complexity import ComplexitySettings
from intake.request_limits.complexity import check_complexity
from wire.schemas.chat import ChatRequest
from wire.schemas.completions import CompletionRequest
from wire.schemas.responses import ResponseRequest
from wire.schemas.validation import check

LIMITS = ComplexitySettings()
SCHEMA = "response_format.json_schema.schema"


def chat(**fields: Any) -> ChatRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    return check(ChatRequest, body)


def with_schema(schema: Any) -> ChatRequest:
    named = {"name": "n", "schema": schema}
    return chat(response_format={"type": "json_schema", "json_schema": named})


def properties(count: int, schema: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {f"p{i}": schema for i in range(count)}}


def nested(levels: int) -> dict[str, Any]:
    """A schema of so many nested objects."""
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels - 1):
        schema = {"not": schema}
    return schema


def of_bytes(size: int) -> dict[str, Any]:
    return {"description": "x" * (size - len('{"description":""}'))}


def pattern(text: str) -> ChatRequest:
    return chat(structured_outputs={"regex": text})


def grammar(text: str) -> ChatRequest:
    return chat(structured_outputs={"grammar": text})


def tool(**function: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", **function}}


def rules(count: int) -> str:
    return "\n".join(f'r{i} ::= "x"' for i in range(count))


#: Limit -> field, how many of it a request has at the limit, and the request that has so many.
CASES: dict[str, tuple[str, int, Callable[[int], Any]]] = {
    "schema_bytes": (SCHEMA, LIMITS.schema_bytes, lambda n: with_schema(of_bytes(n))),
    "schema_depth": (SCHEMA, LIMITS.schema_depth, lambda n: with_schema(nested(n))),
    "schema_parts": (SCHEMA, LIMITS.schema_parts, lambda n: with_schema(properties(n - 1, {}))),
    "schema_bounded_values": (
        SCHEMA,
        LIMITS.schema_bounded_values,
        lambda n: with_schema(properties(n, {"type": "number", "minimum": 0})),
    ),
    "schema_enum_values": (
        SCHEMA,
        LIMITS.schema_enum_values,
        lambda n: with_schema({"enum": list(range(n))}),
    ),
    "pattern_characters": (
        "structured_outputs.regex",
        LIMITS.pattern_characters,
        lambda n: pattern("a" * n),
    ),
    "pattern_depth": (
        "structured_outputs.regex",
        LIMITS.pattern_depth,
        lambda n: pattern("(" * n + "a" + ")" * n),
    ),
    "pattern_repetitions": (
        "structured_outputs.regex",
        LIMITS.pattern_repetitions,
        lambda n: pattern(f"(ab){{{n // 2 - 1}}}cd" + "e" * (n % 2)),
    ),
    "maxLength": (
        SCHEMA,
        LIMITS.pattern_repetitions,
        lambda n: with_schema({"type": "string", "maxLength": n}),
    ),
    "pattern in a schema": (
        SCHEMA,
        LIMITS.pattern_depth,
        lambda n: with_schema(properties(1, {"pattern": "(" * n + "a" + ")" * n})),
    ),
    "grammar_bytes": (
        "structured_outputs.grammar",
        LIMITS.grammar_bytes,
        lambda n: grammar('root ::= "' + "x" * (n - 11) + '"'),
    ),
    "grammar_rules": (
        "structured_outputs.grammar",
        LIMITS.grammar_rules,
        lambda n: grammar(rules(n)),
    ),
    "groups in a grammar": (
        "structured_outputs.grammar",
        LIMITS.pattern_depth,
        lambda n: grammar("root ::= " + "(" * n + '"a"' + ")" * n),
    ),
    "choices": (
        "structured_outputs.choice",
        LIMITS.choices,
        lambda n: chat(structured_outputs={"choice": ["x"] * n}),
    ),
    "choice_characters": (
        "structured_outputs.choice",
        LIMITS.choice_characters,
        lambda n: chat(structured_outputs={"choice": ["x" * (n - 1), "y"]}),
    ),
    "tools": ("tools", LIMITS.tools, lambda n: chat(tools=[tool()] * n)),
    "tools_bytes": (
        "tools",
        LIMITS.tools_bytes,
        lambda n: chat(tools=[tool(description="x" * (n - len("fnull")))]),
    ),
    "a tool's schema": (
        "tools[0].function.parameters",
        LIMITS.schema_parts,
        lambda n: chat(tools=[tool(parameters=properties(n - 1, {}))]),
    ),
    "tools of which one must be called": (
        "tools[1].function.parameters",
        LIMITS.schema_parts,
        lambda n: chat(
            tools=[tool(parameters=properties(n - 2, {})), tool(parameters={})],
            tool_choice="required",
        ),
    ),
    "stop_strings": ("stop", LIMITS.stop_strings, lambda n: chat(stop=["x"] * n)),
    "stop_token_ids": (
        "stop_token_ids",
        LIMITS.stop_token_ids,
        lambda n: chat(stop_token_ids=[1] * n),
    ),
    "bad_words": ("bad_words", LIMITS.bad_words, lambda n: chat(bad_words=["x"] * n)),
    "bad_word_characters": (
        "bad_words",
        LIMITS.bad_word_characters,
        lambda n: chat(bad_words=["x" * n]),
    ),
    "logit_bias_entries": (
        "logit_bias",
        LIMITS.logit_bias_entries,
        lambda n: chat(logit_bias={str(i): 1 for i in range(n)}),
    ),
    "allowed_token_ids": (
        "allowed_token_ids",
        LIMITS.allowed_token_ids,
        lambda n: chat(allowed_token_ids=[1] * n),
    ),
    "template_bytes": (
        "chat_template_kwargs",
        LIMITS.template_bytes,
        lambda n: chat(chat_template_kwargs={"x": "y" * (n - len('{"x":""}'))}),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_at_a_limit_passes_and_one_more_is_refused(name: str) -> None:
    field, limit, request = CASES[name]
    check_complexity(request(limit), LIMITS)
    with pytest.raises(InvalidJob) as refused:
        check_complexity(request(limit + 1), LIMITS)
    assert refused.value.param == field
    assert str(refused.value).startswith(f"{field}: expected at most {limit} ")
    assert str(refused.value).endswith(f"got {limit + 1}")


@pytest.mark.parametrize("name", sorted(ComplexitySettings.model_fields.keys() - {"n", "logprobs"}))
def test_every_limit_is_tested(name: str) -> None:
    assert name in CASES


def test_n_and_logprobs_can_be_set_lower_than_the_api_allows() -> None:
    limits = ComplexitySettings(n=2, logprobs=3)
    text = check(CompletionRequest, {"model": "m", "prompt": "x", "n": 2, "logprobs": 3})
    check_complexity(text, limits)
    for fields in ({"n": 3}, {"logprobs": 4}):
        over = check(CompletionRequest, {"model": "m", "prompt": "x", **fields})
        with pytest.raises(InvalidJob, match="expected at most"):
            check_complexity(over, limits)
    for request in (
        chat(logprobs=True, top_logprobs=4),
        check(ResponseRequest, {"model": "m", "input": "x", "top_logprobs": 4}),
    ):
        with pytest.raises(InvalidJob, match="top_logprobs: expected at most 3"):
            check_complexity(request, limits)


def test_a_response_names_its_own_fields() -> None:
    schema = properties(LIMITS.schema_parts, {})
    form = {"type": "json_schema", "name": "n", "schema": schema}
    request = check(ResponseRequest, {"model": "m", "input": "x", "text": {"format": form}})
    with pytest.raises(InvalidJob) as refused:
        check_complexity(request, LIMITS)
    assert refused.value.param == "text.format.schema"
    tools = [{"type": "function", "name": "f", "parameters": schema}]
    request = check(ResponseRequest, {"model": "m", "input": "x", "tools": tools})
    with pytest.raises(InvalidJob) as refused:
        check_complexity(request, LIMITS)
    assert refused.value.param == "tools[0].parameters"


ENDLESS = {
    "a reference to itself": {"$defs": {"t": {"$ref": "#/$defs/t"}}, "$ref": "#/$defs/t"},
    "two that refer to each other": {
        "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}},
        "$ref": "#/$defs/a",
    },
    "an object that must contain itself": {
        "type": "object",
        "properties": {"next": {"$ref": "#"}},
        "required": ["next"],
    },
    "alternatives that all go on": {"anyOf": [{"$ref": "#"}, {"oneOf": [{"$ref": "#"}]}]},
    "a list that must contain itself": {"type": "array", "items": {"$ref": "#"}, "minItems": 1},
}
ENDING = {
    "a list of items": {
        "$defs": {
            "item": {
                "type": "object",
                "properties": {"next": {"anyOf": [{"$ref": "#/$defs/item"}, {"type": "null"}]}},
                "required": ["next"],
            }
        },
        "$ref": "#/$defs/item",
    },
    "an optional property": {"type": "object", "properties": {"next": {"$ref": "#"}}},
    "a list that may be empty": {"type": "array", "items": {"$ref": "#"}},
    "a name with a slash": {"$defs": {"a/b": {"type": "null"}}, "$ref": "#/$defs/a~1b"},
    "one alternative that ends": {"anyOf": [{"$ref": "#"}, {"const": 1}]},
    "true": {"anyOf": [{"$ref": "#"}, True]},
}


@pytest.mark.parametrize("schema", ENDLESS.values(), ids=ENDLESS)
def test_a_schema_that_refers_to_itself_without_end_is_refused(schema: Any) -> None:
    with pytest.raises(InvalidJob, match="refers to itself without end") as refused:
        check_complexity(with_schema(schema), LIMITS)
    assert refused.value.param == SCHEMA


@pytest.mark.parametrize("schema", ENDING.values(), ids=ENDING)
def test_a_schema_that_refers_to_itself_and_ends_passes(schema: Any) -> None:
    check_complexity(with_schema(schema), LIMITS)


@pytest.mark.parametrize("reference", ["#/$defs/x", "#x", "https://example.com/s", "#/a/99999999"])
def test_a_reference_that_leads_nowhere_is_refused(reference: str) -> None:
    with pytest.raises(InvalidJob, match="point within it"):
        check_complexity(with_schema({"a": [1], "$ref": reference}), LIMITS)


AMBIGUOUS = (
    'root ::= root root | "a" | "b"',
    'root ::= expr\nexpr ::= expr "+" expr | [0-9]+',
    'root ::= "x" | (root "," root)',
    'root ::= b root\nb ::= root | "x"',
    'root ::= (" ")? root root | "a"',
    'start: start start | "a"',
)
CLEAR = (
    'root ::= "a" root | "b"',
    'root ::= root "+" term | term\nterm ::= [0-9]+ | "(" root ")"',
    'root ::= "{" pair ("," pair)* "}"\npair ::= key ":" value\nkey ::= "k"\nvalue ::= root | "1"',
    '?start: sum\nsum: product | sum "+" product\nproduct: NUMBER\n%import common.NUMBER',
)


@pytest.mark.parametrize("text", AMBIGUOUS)
def test_a_rule_that_begins_and_ends_with_itself_is_refused(text: str) -> None:
    with pytest.raises(InvalidJob, match="begins and ends with itself") as refused:
        check_complexity(grammar(text), LIMITS)
    assert refused.value.param == "structured_outputs.grammar"


@pytest.mark.parametrize("text", CLEAR)
def test_other_recursion_passes(text: str) -> None:
    check_complexity(grammar(text), LIMITS)


@pytest.mark.parametrize("field", [{"allowed_token_ids": [1]}, {"bad_words": ["a"]}])
@pytest.mark.parametrize(
    "constraint",
    [
        {"structured_outputs": {"choice": ["a"]}},
        {"response_format": {"type": "json_object"}},
        {"tools": [tool()], "tool_choice": "required"},
    ],
    ids=str,
)
def test_output_constraints_that_may_leave_no_token_are_refused_together(
    field: dict[str, Any], constraint: dict[str, Any]
) -> None:
    (name,) = field
    with pytest.raises(InvalidJob, match="may allow no token") as refused:
        check_complexity(chat(**field, **constraint), LIMITS)
    assert refused.value.param == name
    check_complexity(chat(**field, response_format={"type": "text"}), LIMITS)
    check_complexity(chat(**{name: []}, **constraint), LIMITS)


def test_a_structural_tag_is_checked_in_all_its_parts() -> None:
    inner = {"type": "json_schema", "json_schema": ENDLESS["a reference to itself"]}
    tag = orjson.dumps({"format": {"type": "sequence", "elements": [inner]}}).decode()
    with pytest.raises(InvalidJob, match="without end"):
        check_complexity(chat(structured_outputs={"structural_tag": tag}), LIMITS)


WIDE = ComplexitySettings(
    schema_bytes=10**9,
    schema_parts=10**9,
    schema_enum_values=10**9,
    schema_bounded_values=10**9,
    pattern_characters=10**9,
    pattern_repetitions=10**9,
    pattern_depth=200,
    grammar_bytes=10**9,
    grammar_rules=10**9,
)
GROWING: dict[str, Callable[[int], Any]] = {
    "properties": lambda n: with_schema(properties(n, {"type": "number", "minimum": 1})),
    "long names": lambda n: with_schema({"properties": {"x" * n * 20: properties(n, {})}}),
    "references": lambda n: with_schema(
        {"$defs": properties(n, {"$ref": "#"})["properties"], "anyOf": [{"$ref": "#/$defs/p0"}, {}]}
    ),
    "alternatives": lambda n: with_schema({"anyOf": [{"anyOf": [{"const": 1}] * 4}] * n}),
    "open classes": lambda n: pattern("[" * n * 10),
    "escapes": lambda n: pattern("\\" * (n * 10 + 1)),
    "open braces": lambda n: pattern("{1" * n * 10),
    "digits": lambda n: grammar("r ::= " + "0" * n * 20),
    "open strings": lambda n: grammar('r ::= "\\' * n),
    "slashes": lambda n: grammar("r: " + "/a\n" * n * 4),
    "spaces": lambda n: grammar("r ::= x" + " " * n * 20),
    "empty rules": lambda n: grammar("\n".join(f"r{i} ::= r{i + 1}? r{i + 1}?" for i in range(n))),
    "braces": lambda n: grammar("r ::= " + "{1" * n * 10),
}


@pytest.mark.parametrize("request_of", GROWING.values(), ids=GROWING)
def test_a_check_takes_time_in_proportion_to_the_request(
    request_of: Callable[[int], Any],
) -> None:
    small, large = request_of(500), request_of(4_000)

    def seconds(request: Any) -> float:
        taken = []
        for _ in range(3):
            began = time.process_time()
            check_complexity(request, WIDE)
            taken.append(time.process_time() - began)
        return min(taken)

    # Eight times as long: 64 times the time if it were quadratic.
    assert seconds(large) < max(27 * seconds(small), 0.01)


def test_functions_in_the_old_form_have_the_limits_of_tools() -> None:
    many = [{"name": f"f{place}"} for place in range(LIMITS.tools + 1)]
    deep = [{"name": "f", "parameters": nested(LIMITS.schema_depth + 1)}]
    for functions, param in ((many, "functions"), (deep, "functions[0].parameters")):
        with pytest.raises(InvalidJob) as refused:
            check_complexity(chat(functions=functions), LIMITS)
        assert refused.value.param == param
    forced = chat(functions=many[:1], function_call={"name": "f0"}, bad_words=["x"])
    with pytest.raises(InvalidJob, match="bad_words"):
        check_complexity(forced, LIMITS)
