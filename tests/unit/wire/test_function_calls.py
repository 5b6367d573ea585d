"""OpenAI's old `functions`: what the engine gets, and how its calls are shown."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake.function_chat import has_functions, with_tools
from jobs.events import Event
from jobs.job import JobSpec
from jobs.result import fold
from tests.unit.wire.test_response_events import TEXT, call, thought
from tests.unit.wire.test_views import STARTED, data, delta, finished, log, shown
from wire.errors import InvalidBody
from wire.schemas.chat import ChatRequest
from wire.schemas.validation import check_request
from wire.views.chat import ChatChunks, chat_completion
from wire.views.chunks import CompletionHead

OLD = CompletionHead("job_ab", 1_700_000_000, "m", "default", functions=True)
NEW = CompletionHead("job_ab", 1_700_000_000, "m", "default")
FUNCTION = {"name": "f", "description": "d", "parameters": {"type": "object"}}
HI: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]


def engine_body(**fields: Any) -> dict[str, Any]:
    """Return what the engine gets of a chat's fields, as tools."""
    given = {"model": "m", "messages": HI, **fields}
    body = with_tools(check_request(ChatRequest, given)[1])
    check_request(ChatRequest, body)  # it is a chat without the old fields
    return body


def test_functions_become_tools_of_which_one_may_be_called() -> None:
    body = engine_body(functions=[FUNCTION])
    assert body["tools"] == [{"type": "function", "function": FUNCTION}]
    assert body["parallel_tool_calls"] is False
    assert not body.keys() & {"functions", "function_call", "tool_choice"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ({"name": "f"}, {"type": "function", "function": {"name": "f"}}),
    ],
)
def test_a_function_call_becomes_a_tool_choice(old: Any, new: Any) -> None:
    assert engine_body(functions=[FUNCTION], function_call=old)["tool_choice"] == new


def test_each_result_gets_the_id_of_the_last_call_of_its_function() -> None:
    def called(name: str) -> dict[str, Any]:
        function = {"name": name, "arguments": "{}"}
        return {"role": "assistant", "content": None, "function_call": function}

    def result(name: str, content: str | None) -> dict[str, Any]:
        return {"role": "function", "name": name, "content": content}

    turns = [*HI, called("f"), result("f", "1"), called("g"), called("f"), result("g", None)]
    messages = engine_body(messages=[*turns, result("f", "2")])["messages"]
    ids = [m["tool_calls"][0]["id"] for m in messages if m["role"] == "assistant"]
    assert len(set(ids)) == 3
    assert messages[1] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": ids[0], "type": "function", "function": {"name": "f", "arguments": "{}"}}
        ],
    }
    results = [m for m in messages if m["role"] == "tool"]
    assert [(m["tool_call_id"], m["name"], m["content"]) for m in results] == [
        (ids[0], "f", "1"),
        (ids[1], "g", ""),
        (ids[2], "f", "2"),
    ]


@pytest.mark.parametrize(
    "fields", [{"functions": []}, {"functions": None, "function_call": None}, {}]
)
def test_a_chat_without_functions_is_stored_as_it_was(fields: dict[str, Any]) -> None:
    body = {name: item for name, item in engine_body(**fields).items() if item is not None}
    assert body == {"model": "m", "messages": HI}
    assert not has_functions(fields)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"function_call": "auto"}, "function_call"),
        ({"functions": [FUNCTION], "function_call": "required"}, "function_call"),
        ({"functions": [{"description": "d"}]}, "functions[0].name"),
        (
            {"functions": [FUNCTION], "tools": [{"type": "function", "function": FUNCTION}]},
            "functions",
        ),
        (
            {"messages": [*HI, {"role": "function", "content": "1"}]},
            "messages[1].name",
        ),
        (
            {"messages": [*HI, {"role": "assistant", "function_call": {"name": "f"}}]},
            "messages[1].function_call.arguments",
        ),
    ],
)
def test_what_is_wrong_with_a_function_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidBody) as refused:
        check_request(ChatRequest, {"model": "m", "messages": HI, **fields})
    assert refused.value.param == param


def test_a_spec_remembers_that_its_client_sent_functions() -> None:
    spec = JobSpec("/v1/chat/completions", {}, functions=True)
    assert JobSpec.decode(spec.encode(), b"{}") == spec


PIECES = st.one_of(
    TEXT.map(delta),
    TEXT.map(thought),
    st.builds(call, st.integers(0, 1), TEXT),
    st.just(STARTED),
)


@given(
    pieces=st.lists(PIECES, max_size=8), reason=st.sampled_from(["stop", "length", "tool_calls"])
)
def test_old_clients_see_the_first_call_streamed_and_whole(pieces: list[Any], reason: str) -> None:
    name = (
        [call(0, "{", "f")]
        if any(piece[1].get("delta", {}).get("tool_calls") for piece in pieces)
        else []
    )
    events: list[Event] = log(STARTED, *name, *pieces, delta(finish_reason=reason), finished())
    new = chat_completion(NEW, fold(events))["choices"][0]
    old = chat_completion(OLD, fold(events))["choices"][0]
    calls = new["message"].pop("tool_calls", [])
    assert old["message"].pop("function_call", None) == (calls[0]["function"] if calls else None)
    assert old["message"] == new["message"]
    assert old["finish_reason"] == ("function_call" if reason == "tool_calls" else reason)

    streamed: dict[str, Any] = {}
    chunks = data(shown(ChatChunks(OLD), events))
    for piece in (chunk["choices"][0]["delta"] for chunk in chunks):
        assert "tool_calls" not in piece
        for part, text in piece.get("function_call", {}).items():
            streamed[part] = streamed.get(part, "") + text
    assert streamed == (calls[0]["function"] if calls else {})
    assert chunks[-1]["choices"][0]["finish_reason"] == old["finish_reason"]
