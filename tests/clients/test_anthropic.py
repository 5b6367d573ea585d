"""Anthropic's own client works unchanged; only the base URL and the key differ."""

from typing import Any

import anthropic
import pytest

from tests.clients.conftest import Service
from tests.support.simulated import MODEL

ASKED: Any = {
    "model": MODEL,
    "max_tokens": 12,
    "messages": [{"role": "user", "content": "Tell me about the river."}],
}


@pytest.fixture
def client(service: Service) -> Any:
    with anthropic.Anthropic(
        api_key=service.key, base_url=service.url.removesuffix("/v1"), max_retries=0, timeout=20
    ) as opened:
        yield opened


def test_a_message_is_answered_and_streamed_alike(client: Any) -> None:
    whole = client.messages.create(**ASKED)
    assert (whole.type, whole.role, whole.model) == ("message", "assistant", MODEL)
    assert whole.stop_reason == "max_tokens"
    assert (whole.usage.output_tokens, whole.usage.input_tokens > 0) == (12, True)
    with client.messages.stream(**ASKED) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text == final.content[0].text
    assert (final.stop_reason, final.usage.output_tokens) == ("max_tokens", 12)
    assert final.usage.input_tokens == whole.usage.input_tokens


def test_a_stream_has_anthropics_events_in_their_order(client: Any) -> None:
    kinds = [event.type for event in client.messages.create(**ASKED, stream=True)]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert set(kinds[2:-3]) == {"content_block_delta"}
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]


def test_a_stop_sequence_ends_the_message(client: Any) -> None:
    text = client.messages.create(**ASKED).content[0].text
    stop = text.split()[2]
    ended = client.messages.create(**ASKED, stop_sequences=[stop])
    assert (ended.stop_reason, ended.stop_sequence) == ("stop_sequence", stop)
    assert ended.content[0].text == text.partition(stop)[0]


def test_system_tools_results_and_thinking_are_accepted(client: Any) -> None:
    ephemeral = {"type": "ephemeral"}
    answer = client.messages.create(
        **(ASKED | {"max_tokens": 4}),
        system=[{"type": "text", "text": "Be brief.", "cache_control": ephemeral}],
        tools=[{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
        tool_choice={"type": "auto", "disable_parallel_tool_use": True},
        metadata={"user_id": "ann"},
        extra_body={"top_k": 5},
    )
    assert answer.usage.output_tokens == 4
    turns = [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "sunny"},
                {"type": "text", "text": "And?"},
            ],
        },
    ]
    answer = client.messages.create(
        model=MODEL,
        max_tokens=2000,
        messages=turns,
        thinking={"type": "enabled", "budget_tokens": 1024},
    )
    assert answer.content[0].type == "text"


@pytest.mark.parametrize(
    ("change", "kind", "text"),
    [
        ({"model": "gone"}, anthropic.NotFoundError, "'gone' not found"),
        ({"max_tokens": 0}, anthropic.BadRequestError, "max_tokens"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, anthropic.BadRequestError, "tool"),
    ],
)
def test_an_error_is_anthropics(client: Any, change: Any, kind: Any, text: str) -> None:
    with pytest.raises(kind, match=text) as caught:
        client.messages.create(**(ASKED | change))
    assert caught.value.body["type"] == "error"
    expected = {404: "not_found_error", 400: "invalid_request_error"}
    assert caught.value.body["error"]["type"] == expected[caught.value.status_code]


def test_a_wrong_key_is_anthropics_error(service: Service) -> None:
    url = service.url.removesuffix("/v1")
    with (
        anthropic.Anthropic(api_key="pk_wrong", base_url=url, max_retries=0) as client,
        pytest.raises(anthropic.AuthenticationError) as caught,
    ):
        client.messages.create(**ASKED)
    assert caught.value.body["error"]["type"] == "authentication_error"


def test_tokens_are_counted_as_they_are_charged(client: Any) -> None:
    asked = {
        "model": MODEL,
        "messages": ASKED["messages"],
        "system": "Be brief.",
        "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
    }
    counted = client.messages.count_tokens(**asked)
    answer = client.messages.create(**asked, max_tokens=1)
    assert counted.input_tokens == answer.usage.input_tokens > 0
