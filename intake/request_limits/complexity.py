"""Limits on what a request makes an engine render, compile and compute for each token.

Batches and all routes check requests here. Invariant: a check takes time in proportion to the
request's size, and changes nothing.
"""

from collections.abc import Sequence
from typing import Any

import orjson

from core.errors import InvalidJob
from core.settings.complexity import ComplexitySettings
from intake.request_limits.grammars import check_grammar
from intake.request_limits.json_schema import SchemaCount, json_bytes, json_depth
from intake.request_limits.limit import check_limit
from intake.request_limits.patterns import check_pattern
from intake.request_limits.schema_references import check_references
from jobs.prompts import choices_of
from wire.schemas.chat import ChatRequest, FunctionTool
from wire.schemas.completions import CompletionRequest
from wire.schemas.responses import ResponseJsonSchema, ResponseRequest
from wire.schemas.sampling import (
    JsonSchemaFormat,
    ModelRequest,
    Sampling,
    StructuralTagFormat,
    StructuredOutputs,
    TextRequest,
)

#: orjson cannot write values that are nested deeper than 254.
TEMPLATE_DEPTH = 64


def check_complexity(checked: ModelRequest, limits: ComplexitySettings) -> None:
    """Refuse a request that asks for more than a limit allows, or for what can never work.

    Args:
        checked: The request as the schema read it.
        limits: What a request may ask for.

    Raises:
        InvalidJob: naming the field, the limit and what was given.
    """
    if isinstance(checked, TextRequest):
        _check_text(checked, limits)
    if isinstance(checked, Sampling):
        _check_sampling(checked, limits)
        _check_formats(checked, limits)
        _check_combinations(checked)
    if isinstance(checked, ChatRequest):
        _check_chat(checked, limits)
    elif isinstance(checked, ResponseRequest):
        _check_response(checked, limits)


def check_template_and_tools(
    arguments: dict[str, Any] | None, tools: Sequence[FunctionTool], limits: ComplexitySettings
) -> None:
    """Refuse template arguments and tools that a chat must not have.

    Args:
        arguments: `chat_template_kwargs`.
        tools: The functions of `tools`.
        limits: What a request may ask for.

    Raises:
        InvalidJob: naming the field, the limit and what was given.
    """
    _check_template(arguments, limits)
    _check_tools(tools, "tools[{}].function.parameters", None, limits)


def _check_template(arguments: dict[str, Any] | None, limits: ComplexitySettings) -> None:
    if arguments is not None:
        field = "chat_template_kwargs"
        check_limit(field, json_depth(arguments), TEMPLATE_DEPTH, "nested objects and arrays")
        check_limit(field, json_bytes(arguments), limits.template_bytes, "bytes of JSON")


def _check_text(checked: TextRequest, limits: ComplexitySettings) -> None:
    stop = [] if isinstance(checked.stop, str) else checked.stop or []
    check_limit("stop", len(stop), limits.stop_strings, "stop strings")
    given = len(checked.stop_token_ids or ())
    check_limit("stop_token_ids", given, limits.stop_token_ids, "token ids")
    given = len(checked.logit_bias or ())
    check_limit("logit_bias", given, limits.logit_bias_entries, "tokens with a bias")
    if checked.structured_outputs is not None:
        _check_structured(checked.structured_outputs, limits)
    _check_template(getattr(checked, "chat_template_kwargs", None), limits)


def _check_sampling(checked: Sampling, limits: ComplexitySettings) -> None:
    words = checked.bad_words or []
    check_limit("n", checked.n or 1, limits.n, "choices")
    if isinstance(checked, CompletionRequest):
        given = choices_of({"prompt": checked.prompt, "n": checked.n})
        check_limit("prompt", given, limits.n, "prompts, times n")
    check_limit("bad_words", len(words), limits.bad_words, "words")
    longest = max(map(len, words), default=0)
    check_limit("bad_words", longest, limits.bad_word_characters, "characters in a word")
    given = len(checked.allowed_token_ids or ())
    check_limit("allowed_token_ids", given, limits.allowed_token_ids, "token ids")
    if not isinstance(checked, ChatRequest):
        logprobs = getattr(checked, "logprobs", None) or 0
        check_limit("logprobs", logprobs, limits.logprobs, "logprobs for each token")


def _check_formats(checked: Sampling, limits: ComplexitySettings) -> None:
    if isinstance(checked.response_format, JsonSchemaFormat):
        schema = checked.response_format.json_schema.schema_
        _check_schema("response_format.json_schema.schema", schema, limits)
    elif isinstance(checked.response_format, StructuralTagFormat):
        tag = checked.response_format.model_dump(exclude_none=True)
        _check_structural_tag("response_format", tag, limits)


def _check_structured(outputs: StructuredOutputs, limits: ComplexitySettings) -> None:
    if outputs.json_ is not None:
        _check_schema("structured_outputs.json", outputs.json_, limits)
    for name in ("regex", "whitespace_pattern"):
        if (pattern := getattr(outputs, name)) is not None:
            check_pattern(f"structured_outputs.{name}", pattern, limits)
    if outputs.choice is not None:
        field = "structured_outputs.choice"
        check_limit(field, len(outputs.choice), limits.choices, "choices")
        characters = sum(map(len, outputs.choice))
        check_limit(field, characters, limits.choice_characters, "characters in choices")
    if outputs.grammar is not None:
        check_grammar("structured_outputs.grammar", outputs.grammar, limits)
    if outputs.structural_tag is not None:
        field = "structured_outputs.structural_tag"
        tag = _parsed(field, outputs.structural_tag, limits)
        _check_structural_tag(field, tag, limits)


def _check_schema(field: str, schema: Any, limits: ComplexitySettings) -> None:
    """Check a schema that is going to be compiled."""
    if isinstance(schema, str):
        schema = _parsed(field, schema, limits)
    SchemaCount(limits).add(field, schema)
    check_references(field, schema)


def _parsed(field: str, text: str, limits: ComplexitySettings) -> Any:
    check_limit(field, len(text), limits.schema_bytes, "bytes of JSON schema")
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        raise InvalidJob(f"{field}: expected a JSON schema", param=field) from None


def _check_structural_tag(field: str, tag: Any, limits: ComplexitySettings) -> None:
    """Check what a structural tag contains: it may stand at any depth."""
    check_limit(field, json_depth(tag), limits.schema_depth, "nested objects and arrays")
    count = SchemaCount(limits)
    left = [tag]
    while left:
        value = left.pop()
        if isinstance(value, list):
            left.extend(value)
        elif isinstance(value, dict):
            for name, inner in value.items():
                if name in ("json_schema", "schema", "parameters") and isinstance(inner, dict):
                    count.add(field, inner)
                    check_references(field, inner)
                elif name == "pattern" and isinstance(inner, str):
                    check_pattern(field, inner, limits)
                elif name == "grammar" and isinstance(inner, str):
                    check_grammar(field, inner, limits)
                else:
                    left.append(inner)


def _check_combinations(checked: Sampling) -> None:
    """Refuse a constraint on the output together with a ban on some of what it allows.

    What is left may be nothing, and then an engine cannot go on.
    """
    kind = checked.response_format and checked.response_format.type
    constrained = checked.structured_outputs is not None or kind not in (None, "text")
    choice = getattr(checked, "tool_choice", None) or getattr(checked, "function_call", None)
    if not constrained and choice in (None, "none", "auto"):
        return
    other = "structured_outputs, response_format or a forced tool_choice"
    for name in ("allowed_token_ids", "bad_words"):
        if getattr(checked, name):
            text = f"cannot be combined with {other}: together they may allow no token"
            raise InvalidJob(f"{name}: {text}", param=name)


def _check_chat(checked: ChatRequest, limits: ComplexitySettings) -> None:
    check_limit("top_logprobs", checked.top_logprobs or 0, limits.logprobs, "for each token")
    tools = [tool.function for tool in checked.tools or ()]
    _check_tools(tools, "tools[{}].function.parameters", checked.tool_choice, limits)
    functions = checked.functions or ()
    _check_tools(functions, "functions[{}].parameters", checked.function_call, limits)


def _check_response(checked: ResponseRequest, limits: ComplexitySettings) -> None:
    check_limit("top_logprobs", checked.top_logprobs or 0, limits.logprobs, "for each token")
    form = checked.text and checked.text.format
    if isinstance(form, ResponseJsonSchema):
        _check_schema("text.format.schema", form.schema_, limits)
    _check_tools(checked.tools or (), "tools[{}].parameters", checked.tool_choice, limits)


def _check_tools(tools: Any, field: str, choice: Any, limits: ComplexitySettings) -> None:
    """Check tools; if the model must call one, their schemas are compiled as one."""
    whole = field.partition("[")[0]
    check_limit(whole, len(tools), limits.tools, "tools")
    forced = choice not in (None, "none", "auto")
    together = SchemaCount(limits)
    size = 0
    for place, tool in enumerate(tools):
        name = field.format(place)
        (together if forced else SchemaCount(limits)).add(name, tool.parameters)
        size += _tool_bytes(tool)
        if forced or tool.strict:
            check_references(name, tool.parameters)
    check_limit(whole, size, limits.tools_bytes, "bytes of tools")


def _tool_bytes(tool: FunctionTool) -> int:
    text = len(tool.name) + len((tool.description or "").encode())
    return text + json_bytes(tool.parameters)
