"""Anthropic's messages: what becomes of a request, and what becomes of a job's log."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intake.message_chat import chat_of
from jobs.events import Event
from jobs.result import fold
from jobs.status import Status
from tests.support.sse import parse_sse
from tests.unit.wire.test_response_events import PIECES, a_job, call, thought
from tests.unit.wire.test_views import STARTED, delta, finished, log
from wire.errors import UnsupportedParameter
from wire.schemas.chat import ChatRequest
from wire.schemas.messages import MessagesRequest
from wire.schemas.validation import check, check_request
from wire.views.message import MessageEvents, message_object

ASKED: dict[str, Any] = {"model": "m", "max_tokens": 5}
HI = [{"role": "user", "content": "hi"}]


def chat(**fields: Any) -> dict[str, Any]:
    """Return the stored body of a message's request."""
    parsed, _ = check_request(MessagesRequest, {**ASKED, "messages": HI, **fields})
    return check_request(ChatRequest, chat_of(parsed))[1]


def told(events: list[Event], cuts: int = 1) -> list[dict[str, Any]]:
    """Return the events that a client sees of a log that comes in batches."""
    view = MessageEvents(a_job(), thinking=True)
    parts = [view.preamble]
    for start in range(0, len(events), cuts):
        parts.append(view.show(events[start : start + cuts]))
        if view.ended:
            break
    frames = parse_sse(b"".join(parts).decode())
    assert [frame.event for frame in frames] == [frame.json["type"] for frame in frames]
    return [frame.json for frame in frames]


def test_a_request_becomes_the_chat_that_it_means() -> None:
    image = {"type": "base64", "media_type": "image/png", "data": "AAAA"}
    turns = [
        {"role": "user", "content": [{"type": "image", "source": image}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "x"},
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t", "content": "sun", "is_error": False},
                {"type": "text", "text": "So?"},
            ],
        },
    ]
    function = {"name": "f", "arguments": '{"a":1}'}
    call_of_tool = {"id": "t", "type": "function", "function": function}
    url = {"url": "data:image/png;base64,AAAA"}
    assert chat(messages=turns, system="Be brief.", stop_sequences=["x"], top_k=3) == {
        **ASKED,
        "stop": ["x"],
        "top_k": 3,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "image_url", "image_url": url}]},
            {
                "role": "assistant",
                "content": "I look.",
                "reasoning": "hm",
                "tool_calls": [call_of_tool],
            },
            {"role": "tool", "tool_call_id": "t", "content": "sun"},
            {"role": "user", "content": "So?"},
        ],
    }


@pytest.mark.parametrize(
    ("choice", "meant"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
    ],
)
def test_tools_and_their_choice_are_passed_on(choice: Any, meant: Any) -> None:
    schema = {"type": "object"}
    tool = {"name": "f", "input_schema": schema, "cache_control": {"type": "ephemeral"}}
    body = chat(tools=[tool], tool_choice=choice)
    function = {"name": "f", "parameters": schema}
    assert body["tools"] == [{"type": "function", "function": function}]
    assert body["tool_choice"] == meant


def test_effort_format_and_thinking_are_passed_on() -> None:
    schema = {"type": "object"}
    form = {"type": "json_schema", "schema": schema}
    body = chat(output_config={"effort": "low", "format": form})
    assert body["reasoning_effort"] == "low"
    assert body["response_format"]["json_schema"]["schema"] == schema
    assert chat(thinking={"type": "disabled"})["reasoning_effort"] == "none"
    assert "reasoning_effort" not in chat(thinking={"type": "enabled", "budget_tokens": 2048})


@pytest.mark.parametrize(
    "fields",
    [
        {"mcp_servers": [{"url": "x"}]},
        {"container": "c"},
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
    ],
)
def test_what_cannot_be_served_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedParameter):
        check(MessagesRequest, {**ASKED, "messages": HI, **fields})


def test_thinking_text_and_calls_are_blocks_of_their_own() -> None:
    events = log(
        STARTED, thought("hm"), delta("I look."), call(0, '{"a":', "f"), call(0, "1}"), finished()
    )
    shown = told(events)
    assert [event["type"] for event in shown] == [
        "message_start",
        *("content_block_start", "content_block_delta", "content_block_stop"),
        *("content_block_start", "content_block_delta", "content_block_stop"),
        *("content_block_start", "content_block_delta", "content_block_delta"),
        *("content_block_stop", "message_delta", "message_stop"),
    ]
    assert shown[-2]["delta"]["stop_reason"] == "tool_use"
    whole = message_object(a_job(), fold(events), thinking=True)
    assert whole["content"] == [
        {"type": "thinking", "thinking": "hm", "signature": ""},
        {"type": "text", "text": "I look."},
        {"type": "tool_use", "id": "call_0", "name": "f", "input": {"a": 1}},
    ]
    without = message_object(a_job(), fold(events), thinking=False)
    assert without["content"] == whole["content"][1:]


@given(st.lists(PIECES, max_size=12), st.integers(1, 5))
def test_a_stream_put_together_is_the_whole_message(pieces: list[Any], cuts: int) -> None:
    events = log(STARTED, *pieces, finished())
    shown = told(events, cuts)
    assert shown == told(events, 1)
    deltas = [event["delta"] for event in shown if event["type"] == "content_block_delta"]
    whole = message_object(a_job(), fold(events), thinking=True)
    for kind in ("text", "thinking"):
        streamed = "".join(one[kind] for one in deltas if one["type"] == f"{kind}_delta")
        assert streamed == "".join(b[kind] for b in whole["content"] if b["type"] == kind)
    starts = [event["index"] for event in shown if event["type"] == "content_block_start"]
    stops = [event["index"] for event in shown if event["type"] == "content_block_stop"]
    assert starts == stops == list(range(len(whole["content"])))
    assert shown[-2]["usage"] == whole["usage"]


def test_an_end_without_result_is_an_error_event() -> None:
    shown = told(log(STARTED, delta("a"), finished(Status.CANCELLED)))
    assert shown[-1]["type"] == "error"
    assert shown[-1]["error"]["type"] == "invalid_request_error"
    kinds = list(itertools.pairwise(event["type"] for event in shown))
    assert ("message_stop", "error") not in kinds
