"""The OpenAI routes, through OpenAI's own client and as raw HTTP."""

import asyncio
from typing import Any

import httpx2
import openai
import orjson
import pytest

from core.errors import ContextLengthExceeded, EngineError, InvalidJob
from jobs.status import Status
from jobs.store.transitions import ClaimedJob, Ending
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
from tests.support.waiting import eventually

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
    assert {event.event for event in events} == {""}
    assert "usage" not in events[0].json
    lines = response.text.splitlines()
    assert all(line.startswith("data: ") for line in lines if line)


@pytest.mark.parametrize(
    "asked", [{"Prefer": "event-ids"}, {"Idempotency-Key": "once"}], ids=["preference", "key"]
)
async def test_chunks_have_ids_for_a_client_that_means_to_resume(
    client: httpx2.AsyncClient, hand: Hand, asked: dict[str, str]
) -> None:
    async with answering(hand, "hi"):
        response, events = await read_stream(
            client, CHAT, "POST", json=chat_body(stream=True), headers=asked
        )
    assert [event.id for event in events] == ["", "2", "3", "3"]
    applied = response.headers.get("preference-applied")
    assert applied == asked.get("Prefer")


async def test_a_chat_stream_is_resumed_on_the_job_route(
    client: httpx2.AsyncClient, hand: Hand
) -> None:
    body = chat_body(stream=True)
    headers = {"X-On-Disconnect": "continue", "Prefer": "event-ids"}
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


STREAMED: dict[str, dict[str, Any]] = {
    CHAT: chat_body(stream=True),
    "/v1/completions": {"model": MODEL, "prompt": "hi", "stream": True},
    "/v1/responses": {"model": MODEL, "input": "hi", "stream": True},
    "/v1/generate/stream": {"model": MODEL, "prompt": "hi"},
}


@pytest.mark.settings(stream__hold_seconds=20)
@pytest.mark.parametrize("path", STREAMED)
async def test_a_stream_that_fails_before_its_first_token_is_an_http_error(
    client: httpx2.AsyncClient, hand: Hand, path: str
) -> None:
    async def fail() -> str:
        job = await hand.take()
        error = ContextLengthExceeded("too long", param="messages")
        await hand.finish(job, Status.FAILED, error)
        return job.id

    task = asyncio.create_task(fail())
    refused = await client.post(path, json=STREAMED[path])
    own = path == "/v1/generate/stream"
    assert refused.status_code == (422 if own else 400), refused.text
    found = refused.json() if own else refused.json()["error"]
    assert found["code"] == ("context-length-exceeded" if own else "context_length_exceeded")
    assert found["param"] == ("input" if path == "/v1/responses" else "messages")
    assert refused.headers["x-penstock-job"] == await task
    assert refused.headers["x-should-retry"] == "false"


@pytest.mark.settings(stream__hold_seconds=20)
async def test_openais_client_knows_the_status_of_a_stream_that_fails_at_once(
    ai: openai.AsyncOpenAI, hand: Hand
) -> None:
    task = asyncio.create_task(
        hand.finish_next(Status.FAILED, ContextLengthExceeded("too long", param="messages"))
    )
    with pytest.raises(openai.BadRequestError) as caught:
        await ai.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    await task
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")


@pytest.mark.settings(stream__hold_seconds=0.05)
async def test_a_stream_that_waits_for_long_sends_its_status_first(
    client: httpx2.AsyncClient, hand: Hand
) -> None:
    async with client.stream("POST", CHAT, json=chat_body(stream=True)) as response:
        assert response.status_code == 200  # while the job is queued
        await hand.finish_next(Status.FAILED, EngineError("the engine broke"))
        events = parse_sse((await response.aread()).decode())
    assert events[0].json["error"]["code"] == "engine_error"


@pytest.mark.settings(stream__hold_seconds=20)
async def test_a_client_that_leaves_a_held_stream_cancels_its_job(
    client: httpx2.AsyncClient, hand: Hand
) -> None:
    leaving = asyncio.create_task(client.post(CHAT, json=chat_body(stream=True)))
    job = await hand.take()
    leaving.cancel()

    async def asked_to_stop() -> bool:
        return await hand.say(job, "more") == "cancel"

    await eventually(asked_to_stop)


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


async def test_old_clients_offer_functions_and_read_a_function_call(
    ai: openai.AsyncOpenAI, client: httpx2.AsyncClient, hand: Hand
) -> None:
    function: dict[str, Any] = {"name": "f", "parameters": {"type": "object"}}
    asked: Any = {"functions": [function], "function_call": {"name": "f"}}

    async def work() -> ClaimedJob:
        job = await hand.take()
        part: dict[str, Any] = {"id": "c1", "type": "function"}
        for index, piece in enumerate(({"name": "f", "arguments": '{"a"'}, {"arguments": ":1}"})):
            call = {"tool_calls": [{**(part if not index else {}), "index": 0, "function": piece}]}
            await hand.write(job, ("delta", says("x", delta=call)))
        last = says("", delta={}, finish_reason="tool_calls")
        await hand.write(job, ("delta", last), ending=Ending(Status.COMPLETED))
        return job

    async with asyncio.TaskGroup() as group:
        working = group.create_task(work())
        answer = await ai.chat.completions.create(model=MODEL, messages=MESSAGES, **asked)
    choice = answer.choices[0]
    assert choice.message.function_call is not None
    assert (choice.message.tool_calls, choice.finish_reason) == (None, "function_call")
    assert choice.message.function_call.model_dump() == {"name": "f", "arguments": '{"a":1}'}
    job = working.result()
    assert job.spec.body["tools"] == [{"type": "function", "function": function}]
    assert job.spec.body["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    kept = (await client.get(f"/v1/jobs/{job.id}/result")).json()
    assert kept["choices"][0]["message"]["function_call"]["arguments"] == '{"a":1}'

    async with asyncio.TaskGroup() as group:
        group.create_task(work())
        stream = await ai.chat.completions.create(
            model=MODEL, messages=MESSAGES, stream=True, **asked
        )
        calls = [chunk.choices[0].delta.function_call async for chunk in stream if chunk.choices]
    assert "".join(call.arguments or "" for call in calls if call) == '{"a":1}'


async def test_the_engines_refusal_of_functions_names_what_the_client_sent(
    client: httpx2.AsyncClient, hand: Hand
) -> None:
    async def work() -> None:
        job = await hand.take()
        await hand.finish(job, Status.FAILED, InvalidJob("no", param="tools"))

    async with asyncio.TaskGroup() as group:
        group.create_task(work())
        answer = await client.post(CHAT, json=chat_body(functions=[{"name": "f"}]))
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "functions")
