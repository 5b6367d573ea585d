"""The grammar helper's program with real xgrammar: what it accepts, what it refuses and why."""

import json
from collections.abc import AsyncIterator
from typing import Any

import psutil
import pytest
import pytest_asyncio
import xgrammar
from transformers import AutoTokenizer

from core.settings.engine import TINY_MODEL, EngineSettings
from workers.engines.vllm.grammar_helper import GrammarHelper, GrammarSource

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:xgrammar.*"),
]

LIMITS = EngineSettings(grammar_seconds=2, grammar_compiled_bytes=8 * 1024**2)


def numbers(count: int) -> str:
    """Return a schema with that many bounded numbers."""
    each = {f"p{i}": {"type": "number", "minimum": i, "maximum": 10**12} for i in range(count)}
    return json.dumps({"type": "object", "required": list(each), "properties": each})


def structural_tag(**form: Any) -> str:
    return json.dumps({"type": "structural_tag", **form})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def helper() -> AsyncIterator[GrammarHelper]:
    """One helper; a test may leave its process killed."""
    helper = GrammarHelper(LIMITS, tokenizer_info())
    yield helper
    await helper.kill()


def tokenizer_info() -> str:
    tokeniser = AutoTokenizer.from_pretrained(TINY_MODEL)
    info = xgrammar.TokenizerInfo.from_huggingface(tokeniser, vocab_size=len(tokeniser))
    return str(info.serialize_json())


async def test_a_compilation_that_needs_too_much_memory_is_refused() -> None:
    helper = GrammarHelper(EngineSettings(grammar_memory_bytes=64 * 1024**2), tokenizer_info())
    await helper.start()
    verdict = await helper.compile(GrammarSource("json", numbers(3000), True, "response_format"))

    assert verdict.reason == "memory"
    assert helper.pid is None


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
        ("json", numbers(800), "size"),
        (
            "json",
            json.dumps({"type": "string", "pattern": "(" * 50_000 + "a" + ")" * 50_000}),
            "crash",
        ),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else None,
)
async def test_a_grammar_has_its_verdict(
    helper: GrammarHelper, kind: str, text: str, reason: str
) -> None:
    await helper.start()
    pid = helper.pid
    verdict = await helper.compile(GrammarSource(kind, text, True, "response_format"))

    assert verdict.reason == reason, verdict
    assert pid is not None
    assert psutil.pid_exists(pid) is (reason not in ("time", "crash"))
