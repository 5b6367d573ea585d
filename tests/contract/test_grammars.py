"""Structured outputs on real vLLM: a bad grammar is its own request's failure, and only that."""

import asyncio
import json
import signal
from typing import Any

import psutil
import pytest

from core.errors import InvalidJob
from tests.contract.driver import Driver, chat
from tests.support.waiting import eventually

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::FutureWarning:vllm.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:xgrammar.*"),
]

SELF_REFERENCE = {"$defs": {"t": {"$ref": "#/$defs/t"}}, "$ref": "#/$defs/t"}
PARENTHESES = {"type": "string", "pattern": "(" * 50_000 + "a" + ")" * 50_000}


def schema(value: Any) -> dict[str, Any]:
    """Return the field that asks for a JSON schema."""
    return {
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": value}}
    }


def bounds(count: int) -> dict[str, Any]:
    """Return a schema with that many bounded numbers; compiling it takes long."""
    numbers = {f"p{i}": {"type": "number", "minimum": i, "maximum": 10**12} for i in range(count)}
    return {"type": "object", "required": list(numbers), "properties": numbers}


def nested(depth: int) -> dict[str, Any]:
    """Return a schema of nested alternatives, whose size doubles with each level."""
    inner: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        first = {"type": "object", "properties": {"a": inner, "b": inner}, "required": ["a"]}
        inner = {"oneOf": [first, {"type": "object", "properties": {"c": inner}}]}
    return inner


async def refusal(vllm: Driver, **fields: Any) -> InvalidJob:
    """Add a request; return why it is refused."""
    with pytest.raises(InvalidJob) as caught:
        await vllm.add(chat("x", **fields))
    return caught.value


def helpers(vllm: Driver) -> list[psutil.Process]:
    """Return the helper processes of an engine."""
    guard: Any = vllm.engine
    return [psutil.Process(pid) for pid in guard._grammars.pool.pids]


@pytest.mark.parametrize(
    ("fields", "field", "text"),
    [
        (
            {"structured_outputs": {"grammar": 'root ::= root root | "a" | "b"'}},
            "structured_outputs",
            "ambiguous",
        ),
        (schema(SELF_REFERENCE), "response_format", "invalid"),
        (schema(PARENTHESES), "response_format", "could not be compiled"),
        ({"structured_outputs": {"regex": "(unclosed"}}, "structured_outputs", "invalid"),
        (
            {"structured_outputs": {"choice": [f"entry number {i}" for i in range(100_000)]}},
            "structured_outputs",
            "grammar",
        ),
        (schema({"enum": [f"v{i}" for i in range(100_000)]}), "response_format", "grammar"),
        (schema(nested(9)), "response_format", "grammar"),
    ],
    ids=["ambiguous", "self-reference", "parentheses", "regex", "choices", "enum", "nested"],
)
async def test_a_bad_grammar_is_refused_with_its_field(
    vllm: Driver, fields: dict[str, Any], field: str, text: str
) -> None:
    error = await refusal(vllm, **fields)

    assert (error.param, text in error.message) == (field, True), error.message
    assert not vllm.death.done()
    assert (await vllm.run(chat("Hello", structured_outputs={"choice": ["yes"]}))).text == "yes"


async def test_a_large_choice_within_the_limits_is_enforced(vllm: Driver) -> None:
    entries = [f"entry number {i}" for i in range(5000)]
    choice = await vllm.run(chat("x", structured_outputs={"choice": entries}))

    assert choice.text in entries


async def test_requests_run_while_a_grammar_compiles(vllm: Driver) -> None:
    body = chat("Hello", max_tokens=8, ignore_eos=True)
    slow = asyncio.create_task(refusal(vllm, **schema(bounds(4000))))
    done = 0
    while not slow.done():
        await vllm.run(body)
        done += 1

    assert (await slow).message.startswith("the grammar takes more than 5 s")
    assert done >= 5  # they did not wait for the compiler


async def test_a_cancelled_request_stops_its_compilation(vllm: Driver) -> None:
    body = chat("x", **schema(bounds(4001)))
    adding = asyncio.create_task(vllm.add(body))
    guard: Any = vllm.engine

    async def compiling() -> bool:
        return any(helper.children() for helper in helpers(vllm))

    async def gone() -> bool:
        return not any(process.is_running() for process in before)

    await eventually(compiling)
    before = [process for helper in helpers(vllm) for process in helper.children()]
    await vllm.engine.abort(f"{vllm.name}-{len(vllm.jobs) - 1}")

    await adding
    await eventually(gone)
    assert guard._grammars.waiting == 0


async def test_a_killed_helper_costs_no_later_request(vllm: Driver) -> None:
    await vllm.run(chat("Hello", structured_outputs={"choice": ["up"]}))
    for process in helpers(vllm):
        process.send_signal(signal.SIGKILL)

    choice = await vllm.run(chat("Hello", structured_outputs={"choice": ["down", "left"]}))
    assert choice.text in ("down", "left")


async def test_a_repeated_grammar_is_not_compiled_again(vllm: Driver) -> None:
    body = chat("Hello", **schema(bounds(150)), max_tokens=1)
    await vllm.ended(await vllm.add(body))
    (process,) = helpers(vllm)
    spent = process.cpu_times()
    for name in [await vllm.add(body) for _ in range(3)]:
        await vllm.ended(name)

    assert process.cpu_times()[:2] == spent[:2]


def tag(value: Any) -> dict[str, Any]:
    """Return a structural tag whose content is bound by a JSON schema."""
    content = {"type": "json_schema", "json_schema": value}
    return {"type": "structural_tag", "format": content}


async def test_a_structural_tag_is_compiled_by_a_helper_too(vllm: Driver) -> None:
    for fields in (
        {"response_format": tag(PARENTHESES)},
        {"structured_outputs": {"structural_tag": json.dumps(tag(PARENTHESES))}},
    ):
        error = await refusal(vllm, **fields)
        assert "could not be compiled" in error.message
    choice = await vllm.run(chat("Hello", response_format=tag({"enum": ["up", "down"]})))

    assert json.loads(choice.text) in ("up", "down")


async def test_what_xgrammar_cannot_enforce_is_refused(vllm: Driver) -> None:
    both = {"allOf": [{"type": "string"}, {"enum": ["up", "down"]}]}
    error = await refusal(vllm, **schema(both))

    assert (error.param, "cannot be enforced" in error.message) == ("response_format", True)
