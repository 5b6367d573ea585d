"""What a request asks of vLLM's structured outputs, checked without running native code.

`take_grammar` replaces vLLM's own validation, which converts the grammar in native code in the
worker's process. The rest of that validation is done here, with vLLM's functions.

Invariant: no grammar of a client reaches xgrammar in this process before a helper compiled it.
"""

import json
from typing import Any

from vllm.config import VllmConfig
from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import SamplingParams, StructuredOutputsParams, check_json_nesting
from vllm.v1.structured_output.backend_xgrammar import (
    XgrammarBackend,
    has_xgrammar_unsupported_json_features,
)
from vllm.v1.structured_output.utils import choice_as_grammar, grammar_is_likely_lark

from workers.engines.helpers.grammar_guard import GrammarSource

BACKENDS = ("auto", "xgrammar")
HARMLESS_TAG = {"type": "structural_tag", "format": {"type": "const_string", "value": "a"}}
FIELDS = ("structured_outputs", "response_format", "tool_choice", "tools")


def read_tokenizer_info(config: VllmConfig, tokenizer: Any) -> str:
    """Return the JSON of the `TokenizerInfo` that vLLM's xgrammar backend uses."""
    backend = XgrammarBackend(config, tokenizer, config.model_config.get_vocab_size())
    compiled = backend.compiler.compile_grammar('root ::= "a"')
    return str(compiled.tokenizer_info.serialize_json())


def hide_structural_tag(config: VllmConfig, body: dict[str, Any]) -> str | None:
    """Replace a structural tag by a harmless one: vLLM's request classes run native code on it.

    Args:
        config: vLLM's configuration.
        body: A copy of the request; changed.

    Returns:
        The tag, for `take_grammar`; None if the request has none.
    """
    if config.structured_outputs_config.backend not in BACKENDS:
        return None
    wanted, form = body.get("structured_outputs"), body.get("response_format")
    hidden = None
    if isinstance(wanted, dict) and isinstance(wanted.get("structural_tag"), str):
        hidden, wanted["structural_tag"] = wanted["structural_tag"], json.dumps(HARMLESS_TAG)
    if isinstance(form, dict) and form.get("type") == "structural_tag":
        hidden, body["response_format"] = json.dumps(form), HARMLESS_TAG
    return hidden


def take_grammar(
    params: SamplingParams, config: VllmConfig, body: dict[str, Any], hidden: str | None
) -> tuple[GrammarSource, StructuredOutputsParams] | None:
    """Take the grammar out of a request's parameters; put it back when a helper compiled it.

    Args:
        params: Changed: `structured_outputs` becomes None.
        config: vLLM's configuration.
        body: The request, to name the field that the grammar comes from.
        hidden: What `hide_structural_tag` returned.

    Returns:
        The grammar for the helper, and what to put back. None if the request has no grammar, or if
        another backend than xgrammar is configured, which no helper knows.

    Raises:
        VLLMValidationError: the request is wrong, or xgrammar cannot enforce it.
    """
    wanted = params.structured_outputs
    settings = config.structured_outputs_config
    if wanted is None or wanted.all_constraints_none() or settings.backend not in BACKENDS:
        return None
    field = next((name for name in FIELDS if body.get(name) is not None), "structured_outputs")
    if hidden is not None:
        wanted.structural_tag = hidden
    try:
        kind, text = _read(wanted)
    except VLLMValidationError as error:
        raise VLLMValidationError(str(error), parameter=field) from error
    except RecursionError as error:
        raise VLLMValidationError("the grammar is nested too deeply", parameter=field) from error
    params.structured_outputs = None
    wanted._backend = "xgrammar"  # noqa: SLF001  # what vLLM's validation sets
    return GrammarSource(kind, text, not settings.disable_any_whitespace, field), wanted


def _read(wanted: StructuredOutputsParams) -> tuple[str, str]:
    """Return the kind and text of a grammar; a choice is turned into a grammar, as vLLM does."""
    check_json_nesting(wanted.json)
    check_json_nesting(wanted.structural_tag, structural_tag=True)
    if wanted.json_object is False:
        raise VLLMValidationError("json_object must be true if it is set")
    if wanted.choice is not None:
        if not wanted.choice:
            raise VLLMValidationError("choice must not be empty")
        wanted.grammar, wanted.choice = choice_as_grammar(wanted.choice), None
    if wanted.json is not None:
        return "json", _read_schema(wanted.json)
    if wanted.json_object:
        return "json", '{"type": "object"}'
    if wanted.regex is not None:
        if "\x00" in wanted.regex:
            raise VLLMValidationError("regex must not contain a NUL character")
        return "regex", wanted.regex
    if wanted.grammar is not None:
        return ("lark" if grammar_is_likely_lark(wanted.grammar) else "grammar"), wanted.grammar
    assert wanted.structural_tag is not None
    return "structural_tag", wanted.structural_tag


def _read_schema(schema: str | dict[str, Any]) -> str:
    if isinstance(schema, str):
        text = schema
        try:
            schema = json.loads(text)
        except json.JSONDecodeError as error:
            raise VLLMValidationError("the JSON schema is not JSON") from error
    else:
        text = json.dumps(schema)
    if isinstance(schema, dict) and has_xgrammar_unsupported_json_features(schema):
        raise VLLMValidationError("the JSON schema has features that xgrammar cannot enforce")
    return text
