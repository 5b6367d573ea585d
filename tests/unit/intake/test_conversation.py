"""Conversion between the items of a response and the messages of a chat."""

from typing import Any

from pydantic import TypeAdapter

from intake.responses.conversation import to_items, to_messages
from wire.schemas.response_items import ResponseInput

INPUT: TypeAdapter[Any] = TypeAdapter(ResponseInput)

GIVEN: list[dict[str, Any]] = [
    {"role": "developer", "content": "Be brief."},
    {
        "role": "user",
        "content": [
            {"type": "input_text", "text": "What is this?"},
            {"type": "input_image", "image_url": "https://a/b.png", "detail": "low"},
        ],
    },
    {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [],
        "content": [{"type": "reasoning_text", "text": "hm"}],
    },
    {
        "type": "message",
        "id": "msg_1",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "I look.", "annotations": [], "logprobs": []}],
    },
    {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"},
    {"type": "function_call", "call_id": "c2", "name": "ask", "arguments": '{"a":1}'},
    {"type": "function_call_output", "call_id": "c1", "output": "a mill"},
    {
        "type": "function_call_output",
        "call_id": "c2",
        "output": [{"type": "input_text", "text": "yes"}],
    },
    {"role": "assistant", "content": "A mill."},
    {"role": "assistant", "content": [{"type": "refusal", "refusal": "No more."}]},
    {"role": "user", "content": "Why?"},
]

CHAT: list[dict[str, Any]] = [
    {"role": "developer", "content": "Be brief."},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": "https://a/b.png", "detail": "low"}},
        ],
    },
    {
        "role": "assistant",
        "reasoning": "hm",
        "content": "I look.",
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}},
            {"id": "c2", "type": "function", "function": {"name": "ask", "arguments": '{"a":1}'}},
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "a mill"},
    {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "yes"}]},
    {"role": "assistant", "content": "A mill."},
    {"role": "assistant", "content": "", "refusal": "No more."},
    {"role": "user", "content": "Why?"},
]


def read(given: Any) -> Any:
    return to_messages(INPUT.validate_python(given, strict=True))


def test_text_is_what_the_user_says() -> None:
    assert read("hi") == [{"role": "user", "content": "hi"}]


def test_what_an_assistant_says_in_one_turn_is_one_message() -> None:
    assert read(GIVEN) == CHAT


def test_the_items_of_a_chat_mean_the_same_chat() -> None:
    items = to_items(CHAT, "ab")
    # Parts that were plain text become parts; nothing else changes.
    again = read(items)
    assert [message["role"] for message in again] == [message["role"] for message in CHAT]
    assert to_items(again, "ab") == items


def test_ids_of_items_are_unique_and_always_the_same() -> None:
    ids = [item["id"] for item in to_items(CHAT, "ab")]
    assert len(set(ids)) == len(ids) == len(GIVEN)
    assert ids == [item["id"] for item in to_items(CHAT, "ab")]
    assert {name.split("_")[0] for name in ids} == {"msg", "rs", "fc", "fco"}
