"""The OpenAI routes, through OpenAI's own client and as raw HTTP."""

import asyncio
from typing import Any

import httpx2
import openai
import orjson
import pytest

from core.errors import EngineError
from jobs.status import Status
from jobs.store.transitions import Ending
from tests.integration.api.conftest import (
    MODEL,
    Hand,
    answering,
    chat_body,
    read_stream,
    says,
    until_status,
)
from tests.support.sse import parse_sse

MESSAGES: Any = [{"role": "user", "content": "hello"}]
CHAT = "/v1/chat/completions"


# --- whole answers --------------------------------------------------------------------


async def test_create_returns_a_whole_completion(ai: openai.AsyncOpenAI, hand: Hand) -> None:
    async with answering(hand, "Hello", " there") as taken:
        answer = await ai.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=9)
    assert answer.choices[0].message.content == "Hello there"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.object, answer.model) == ("chat.completion", MODEL)
    assert answer.id == "chatcmpl-" + taken[0].id.removeprefix("job_")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (5, 2)
    assert answer.usage.total_tokens == 7
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 2
    assert taken[0].watched


async def test_text_completions_return_text(ai: openai.AsyncOpenAI, hand: Hand) -> None:
    async with answering(hand, "a", "b") as taken:
        answer = await ai.completions.create(model=MODEL, prompt="say", stop=["x"])
    assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("ab", "stop")
    assert (answer.object, answer.id[:5]) == ("text_completion", "cmpl-")
    assert taken[0].spec.body == {"model": MODEL, "prompt": "say", "stop": ["x"]}


async def test_the_raw_response_names_job_and_request(ai: openai.AsyncOpenAI, hand: Hand) -> None:
    async with answering(hand, "hi") as taken:
        raw = await ai.chat.completions.with_raw_response.create(
            model=MODEL, messages=MESSAGES, extra_headers={"X-Request-ID": "mine-1"}
        )
    assert raw.headers["x-penstock-job"] == taken[0].id
    assert raw.headers["x-request-id"] == "mine-1"
    assert taken[0].spec.request_id == "mine-1"
    assert raw.parse().choices[0].message.content == "hi"


async def test_tool_calls_reasoning_choices_and_logprobs_are_put_together(
    ai: openai.AsyncOpenAI, hand: Hand
) -> None:
    def call(index: int, arguments: str, **more: Any) -> dict[str, Any]:
        function = {"arguments": arguments, **more.pop("function", {})}
        return {"tool_calls": [{"index": index, "function": function, **more}]}

    def prob(token: str) -> dict[str, Any]:
        return {"content": [{"token": token, "logprob": -0.5, "bytes": None, "top_logprobs": []}]}

    async def work() -> None:
        job = await hand.take()
        start = {"id": "c1", "type": "function", "function": {"name": "f"}}
        await hand.write(
            job,
            ("delta", says("<think>", delta={"reasoning": "hm"})),
            ("delta", says("x", delta=call(0, '{"a":', **start))),
            ("delta", says("y", delta=call(0, "1}"))),
            ("delta", says("z", delta={}, finish_reason="tool_calls", stop_reason=7)),
            ("delta", says("plain", index=1, logprobs=prob("plain"))),
            ("delta", says("!", index=1, logprobs=prob("!"), finish_reason="length")),
            ending=Ending(Status.COMPLETED),
        )

    tools: Any = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
    answer, _ = await asyncio.gather(
        ai.chat.completions.create(
            model=MODEL, messages=MESSAGES, tools=tools, tool_choice="auto", n=2, logprobs=True
        ),
        work(),
    )
    first, second = answer.choices
    assert first.message.content is None
    assert first.message.tool_calls is not None
    function: Any = first.message.tool_calls[0]
    assert (function.id, function.function.name) == ("c1", "f")
    assert orjson.loads(function.function.arguments) == {"a": 1}
    assert first.message.model_extra == {"reasoning": "hm"}
    assert first.finish_reason == "tool_calls"
    assert first.model_extra == {"stop_reason": 7}
    assert (second.message.content, second.finish_reason) == ("plain!", "length")
    assert second.logprobs is not None
    assert [item.token for item in second.logprobs.content or ()] == ["plain", "!"]


# --- streams --------------------------------------------------------------------------


async def test_a_stream_is_the_answer_in_chunks(ai: openai.AsyncOpenAI, hand: Hand) -> None:
    async with answering(hand, "Hello", " there"):
        stream = await ai.chat.completions.create(
            model=MODEL,
            messages=MESSAGES,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "Hello there"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == 2
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert len({chunk.id for chunk in chunks}) == 1


async def test_a_text_stream_is_the_text_in_chunks(ai: openai.AsyncOpenAI, hand: Hand) -> None:
    async with answering(hand, "a", "b"):
        stream = await ai.completions.create(model=MODEL, prompt="say", stream=True)
        chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].text for chunk in chunks) == "ab"
    assert chunks[-1].choices[0].finish_reason == "stop"


async def test_a_stream_on_the_wire(client: httpx2.AsyncClient, hand: Hand) -> None:
    async with answering(hand, "hi") as taken:
        response, events = await read_stream(client, CHAT, "POST", json=chat_body(stream=True))
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-penstock-job"] == taken[0].id
    assert events[-1].data == "[DONE]"
    assert [event.id for event in events] == ["", "2", "3", "3"]
    assert {event.event for event in events} == {""}
    assert "usage" not in events[0].json
    assert "retry:" not in response.text


async def test_a_chat_stream_is_resumed_on_the_job_route(
    client: httpx2.AsyncClient, hand: Hand
) -> None:
    body = chat_body(stream=True)
    headers = {"X-On-Disconnect": "continue"}
    got = ""
    async with client.stream("POST", CHAT, json=body, headers=headers) as response:
        job = await hand.take()
        await hand.say(job, "one")
        async for chunk in response.aiter_text():
            got += chunk
            if "one" in got:
                break
    await hand.answer(job, " two")
    cursor = parse_sse(got)[-1].id
    _, rest = await read_stream(
        client, f"/v1/jobs/{job.id}/stream", headers={"Last-Event-ID": cursor}
    )
    assert [event.json["text"] for event in rest if event.event == "delta"] == [" two", ""]


@pytest.mark.settings(stream__ping_seconds=0.1)
async def test_openais_client_survives_pings_between_numbered_chunks(
    ai: openai.AsyncOpenAI, hand: Hand, client: httpx2.AsyncClient
) -> None:
    async def slow() -> None:
        job = await hand.take()
        await hand.say(job, "a")
        following = client.stream("GET", f"/v1/jobs/{job.id}/stream")
        async with following as response:  # pings pass here and on the other stream alike
            seen = ""
            async for chunk in response.aiter_text():
                seen += chunk
                if seen.count(": ping") >= 3:
                    break
        await hand.answer(job, "b")

    task = asyncio.create_task(slow())
    stream = await ai.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    await task
    assert text == "ab"


async def test_a_restart_after_text_ends_the_stream_and_says_discard(
    ai: openai.AsyncOpenAI, hand: Hand, client: httpx2.AsyncClient
) -> None:
    async def work() -> str:
        job = await hand.take()
        await hand.say(job, "old")
        await hand.write(job, ("restarted", {}))
        await hand.answer(job, "new")
        return job.id

    task = asyncio.create_task(work())
    stream = await ai.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    texts: list[str | None] = []

    async def read() -> None:
        async for chunk in stream:
            texts.append(chunk.choices[0].delta.content)  # noqa: PERF401 - kept on error

    with pytest.raises(openai.APIError) as caught:
        await read()
    assert (texts, caught.value.code) == (["", "old"], "restarted")
    await until_status(client, await task, "completed")


async def test_a_restart_before_any_text_is_invisible(ai: openai.AsyncOpenAI, hand: Hand) -> None:
    async def work() -> None:
        job = await hand.take()
        await hand.write(job, ("restarted", {}))
        await hand.answer(job, "new")

    task = asyncio.create_task(work())
    stream = await ai.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    await task
    assert text == "new"


async def test_a_failure_in_a_stream_is_an_error_then_done(
    client: httpx2.AsyncClient, hand: Hand
) -> None:
    task = asyncio.create_task(hand.fail_after("a", EngineError("the engine broke")))
    _, events = await read_stream(client, CHAT, "POST", json=chat_body(stream=True))
    await task
    assert events[-1].data == "[DONE]"
    error = events[-2].json["error"]
    assert (error["code"], error["message"]) == ("engine_error", "the engine broke")
    assert error["type"] == "server_error"


# --- models ---------------------------------------------------------------------------


async def test_models_are_listed_and_read(ai: openai.AsyncOpenAI) -> None:
    models = (await ai.models.list()).data
    assert [(model.id, model.object, model.owned_by) for model in models] == [
        (MODEL, "model", "penstock")
    ]
    assert (await ai.models.retrieve(MODEL)).created == 1_700_000_000
    with pytest.raises(openai.NotFoundError):
        await ai.models.retrieve("org/unknown")
