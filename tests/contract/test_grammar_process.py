"""The grammar helper's program with real xgrammar: what it accepts, what it refuses and why."""

import json
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
import xgrammar
from transformers import AutoTokenizer

from core.settings.engine import TINY_MODEL, EngineSettings
from workers.engines.helpers.grammar_guard import (
    GrammarSource,
    GrammarVerdict,
    compile_grammar,
    make_helper,
)
from workers.engines.helpers.helper_process import HelperProcess

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:xgrammar.*"),
]

LIMITS = EngineSettings(grammar_seconds=2, grammar_compiled_bytes=2 * 1024**2)


def numbers(count: int) -> str:
    """Return a schema with that many bounded numbers."""
    each = {f"p{i}": {"type": "number", "minimum": i, "maximum": 10**12} for i in range(count)}
    return json.dumps({"type": "object", "required": list(each), "properties": each})


def structural_tag(**form: Any) -> str:
    return json.dumps({"type": "structural_tag", **form})


@pytest.fixture(scope="module")
def helper() -> Iterator[HelperProcess]:
    """One helper for all tests."""
    helper = make_helper(LIMITS, tokenizer_info())
    yield helper
    helper.kill()


def verdict_on(helper: HelperProcess, kind: str, text: str) -> GrammarVerdict:
    return compile_grammar(GrammarSource(kind, text, True, "response_format"), "m", helper)


def tokenizer_info() -> str:
    tokeniser = AutoTokenizer.from_pretrained(TINY_MODEL)
    info = xgrammar.TokenizerInfo.from_huggingface(tokeniser, vocab_size=len(tokeniser))
    return str(info.serialize_json())


def test_a_compilation_that_needs_too_much_memory_is_refused() -> None:
    helper = make_helper(EngineSettings(grammar_memory_bytes=64 * 1024**2), tokenizer_info())
    try:
        assert verdict_on(helper, "json", numbers(3000)).reason == "memory"
    finally:
        helper.kill()


@pytest.mark.parametrize(
    ("kind", "text", "reason"),
    [
        ("json", '{"type": "object"}', ""),
        ("json", numbers(20), ""),
        ("regex", "[a-z ]{1,300}", ""),
        ("grammar", 'root ::= "a" root | "b"', ""),
        ("lark", 'start: "a" | "b"', ""),
        ("structural_tag", structural_tag(format={"type": "const_string", "value": "a"}), ""),
        ("regex", "(unclosed", "invalid"),
        ("json", '{"$defs": {"t": {"$ref": "#/$defs/t"}}, "$ref": "#/$defs/t"}', "invalid"),
        ("grammar", 'root ::= root root | "a" | "b"', "token_cost"),
        ("grammar", 'root ::= x | root x\nx ::= "a" | x x | "b"', "token_cost"),
        ("json", numbers(2000), "time"),
        ("json", numbers(200), "size"),
        (
            "json",
            json.dumps({"type": "string", "pattern": "(" * 50_000 + "a" + ")" * 50_000}),
            "crash",
        ),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)
def test_a_grammar_has_its_verdict(
    helper: HelperProcess, kind: str, text: str, reason: str
) -> None:
    verdict = verdict_on(helper, kind, text)
    first = helper.pid

    assert verdict.reason == reason, verdict
    assert verdict_on(helper, "regex", "a").reason == ""
    assert helper.pid == first  # only a fork of it ended
    assert first is not None
    assert psutil.Process(first).children() == []
