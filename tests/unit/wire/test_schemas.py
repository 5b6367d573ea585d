"""Request bodies, as real clients send them, are accepted."""

from typing import Any

import pytest
from openai.types.chat import ChatCompletionMessage

from wire.errors import InvalidBody
from wire.schemas.chat import ChatRequest
from wire.schemas.completions import CompletionRequest
from wire.schemas.jobs import JobRequest
from wire.schemas.validation import check

USER = {"role": "user", "content": "hi"}


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 1, "top_p": 1, "frequency_penalty": -2, "presence_penalty": 2},
        {"n": None, "max_tokens": None, "stop": None, "seed": None, "tools": None},
        {"max_completion_tokens": 5, "reasoning_effort": "low", "verbosity": "low"},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"logprobs": True, "top_logprobs": 20},
        {"logit_bias": {"50256": -100}, "stop": ["a", "b"], "user": "u", "store": False},
        {"service_tier": "auto", "metadata": {"a": "b"}, "modalities": ["text"]},
        {"response_format": {"type": "json_object"}},
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "x", "schema": {"type": "object"}, "strict": True},
            }
        },
        {
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "x"}}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "parallel_tool_calls": False,
        },
        {"top_k": -1, "min_p": 0, "min_tokens": 1, "repetition_penalty": 1.1},
        {"ignore_eos": True, "stop_token_ids": [1], "skip_special_tokens": False},
        {"include_stop_str_in_output": True, "chat_template_kwargs": {"enable_thinking": False}},
        {"structured_outputs": {"choice": ["yes", "no"]}, "include_reasoning": False},
        {"structured_outputs": {"json": {"type": "object"}}},
    ],
    ids=str,
)
def test_chat_parameters_pass(fields: dict[str, Any]) -> None:
    check(ChatRequest, {"model": "m", "messages": [USER], **fields})


@pytest.mark.parametrize(
    "message",
    [
        {"role": "system", "content": "be kind"},
        {"role": "developer", "content": [{"type": "text", "text": "be kind"}], "name": "x"},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x/y"}}]},
        {
            "role": "user",
            "content": [{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}],
        },
        {"role": "tool", "content": "4", "tool_call_id": "c"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
            ],
        },
        ChatCompletionMessage(role="assistant", content="hi").model_dump(),
        {"role": "assistant", "content": "hi", "reasoning": "hm"},
    ],
    ids=str,
)
def test_messages_pass(message: dict[str, Any]) -> None:
    check(ChatRequest, {"model": "m", "messages": [message]})


@pytest.mark.parametrize("prompt", ["hi", ["hi"], [1, 2], [[1, 2]]])
def test_one_prompt_in_any_form_passes(prompt: Any) -> None:
    check(CompletionRequest, {"model": "m", "prompt": prompt, "echo": False, "best_of": 1})


def test_every_wrong_field_is_listed_once() -> None:
    with pytest.raises(InvalidBody) as caught:
        check(ChatRequest, {"messages": [USER], "temperature": "x", "a/b": 1, "stop": 5})
    fields = {wrong.field: wrong for wrong in caught.value.fields}
    assert set(fields) == {"model", "temperature", "a/b", "stop"}
    assert fields["a/b"].pointer == "/a~1b"
    assert ", or: " in fields["stop"].message


def test_of_a_union_the_deepest_error_is_described() -> None:
    with pytest.raises(InvalidBody) as caught:
        check(ChatRequest, {"model": "m", "messages": [USER], "stop": ["a", 1, 2]})
    assert [wrong.field for wrong in caught.value.fields] == ["stop[1]", "stop[2]"]


def test_messages_never_repeat_what_was_sent() -> None:
    secret = "the secret prompt"
    bodies: list[dict[str, Any]] = [
        {"model": "m", "messages": [{"role": secret, "content": secret}]},
        {"model": "m", "messages": [{"role": "user", "content": [{"type": secret}]}]},
        {"model": "m", "messages": secret},
        {"model": "m", "messages": [USER], "tool_choice": secret},
        {"model": "m", "messages": [USER], "stop": {"x": secret}},
    ]
    for body in bodies:
        with pytest.raises(InvalidBody) as caught:
            check(ChatRequest, body)
        assert all(secret not in wrong.message for wrong in caught.value.fields)


@pytest.mark.parametrize(
    ("given", "milliseconds"),
    [
        ("2030-01-01T00:00:00Z", 1_893_456_000_000),
        ("2030-01-01T01:00:00+01:00", 1_893_456_000_000),
        (1_893_456_000, 1_893_456_000_000),
        (1_893_456_000.5, 1_893_456_000_500),
        (None, None),
    ],
)
def test_instants_become_milliseconds(given: Any, milliseconds: int | None) -> None:
    asked = check(JobRequest, {"url": "/v1/completions", "body": {}, "deadline": given})
    assert asked.deadline == milliseconds
