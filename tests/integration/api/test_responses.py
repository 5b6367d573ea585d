"""The Responses API, through OpenAI's own client and as raw HTTP."""

import asyncio
from typing import Any

import httpx2
import openai
import pytest

from core.errors import ContextLengthExceeded, EngineError
from jobs.status import Status
from jobs.store.transitions import ClaimedJob, Ending
from tests.integration.api.conftest import (
    MODEL,
    Hand,
    OnSharedApi,
    answering,
    read_stream,
    says,
    status_of,
    until_status,
)
from tests.support.waiting import eventually

URL = "/v1/responses"


def body(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "input": "hello", **fields}


def job_of(response: Any) -> str:
    found: str = response.id
    return found.replace("resp_", "job_")


async def end_when_cancelled(hand: Hand, job: ClaimedJob) -> None:
    """Go on until told to stop, as a worker does."""

    async def told() -> bool:
        return await hand.say(job, "x") == "cancel"

    await eventually(told)
    await hand.finish(job, Status.CANCELLED)


# --- whole answers --------------------------------------------------------------------


async def test_a_response_is_a_chat_in_the_same_queue(ai: openai.AsyncOpenAI, hand: Hand) -> None:
    async with answering(hand, "Hello", " there") as taken:
        response = await ai.responses.create(
            model=MODEL,
            instructions="Be brief.",
            input="hello",
            max_output_tokens=9,
            temperature=0,
            metadata={"a": "b"},
            reasoning={"effort": "low"},
            text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}},
        )
    assert taken[0].spec.url == URL
    assert taken[0].spec.body == {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "hello"},
        ],
        "max_completion_tokens": 9,
        "temperature": 0.0,
        "reasoning_effort": "low",
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "n", "schema": {"type": "object"}},
        },
    }
    assert (response.status, response.output_text) == ("completed", "Hello there")
    assert (job_of(response), response.model) == (taken[0].id, MODEL)
    assert (response.instructions, response.metadata) == ("Be brief.", {"a": "b"})
    assert response.reasoning is not None
    assert response.reasoning.effort == "low"
    assert response.text is not None
    assert response.text.format is not None
    assert response.text.format.type == "json_schema"
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (5, 2)
    assert response.usage.input_tokens_details.cached_tokens == 2
    assert await ai.responses.retrieve(response.id) == response


async def test_a_response_is_also_a_job(
    ai: openai.AsyncOpenAI, client: httpx2.AsyncClient, hand: Hand
) -> None:
    async with answering(hand, "Hello"):
        response = await ai.responses.create(model=MODEL, input="hello")
    job = (await client.get(f"/v1/jobs/{job_of(response)}")).json()
    assert (job["url"], job["result"]["id"]) == (URL, response.id)
    submitted = await client.post("/v1/jobs", json={"url": URL, "body": body(store=False)})
    await hand.answer(await hand.take(), "Again")
    again = (await client.get(submitted.headers["location"])).json()
    assert again["result"]["output"][0]["content"][0]["text"] == "Again"


async def test_tools_are_called_and_their_answers_sent_back(
    ai: openai.AsyncOpenAI, hand: Hand
) -> None:
    tools: Any = [{"type": "function", "name": "look", "parameters": {"type": "object"}}]
    function = {"name": "look", "arguments": "{}"}
    part = {"index": 0, "id": "c1", "type": "function", "function": function}

    async def call() -> ClaimedJob:
        job = await hand.take()
        delta = says("x", delta={"tool_calls": [part]}, finish_reason="tool_calls")
        thought = says("x", delta={"reasoning": "I look."})
        await hand.write(job, ("delta", thought), ("delta", delta), ending=Ending("completed"))
        return job

    first, job = await asyncio.gather(
        ai.responses.create(
            model=MODEL,
            input="what?",
            tools=tools,
            tool_choice={"type": "function", "name": "look"},
        ),
        call(),
    )
    assert job.spec.body["tools"] == [
        {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    ]
    assert job.spec.body["tool_choice"] == {"type": "function", "function": {"name": "look"}}
    assert [item.type for item in first.output] == ["reasoning", "function_call"]
    output: Any = {"type": "function_call_output", "call_id": "c1", "output": "a mill"}
    async with answering(hand, "A mill.") as taken:
        second = await ai.responses.create(
            model=MODEL, input=[output], previous_response_id=first.id, tools=tools
        )
    spoken = {"role": "assistant", "reasoning": "I look."}
    calls = [{"id": "c1", "type": "function", "function": function}]
    assert taken[0].spec.body["messages"] == [
        {"role": "user", "content": "what?"},
        {**spoken, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "c1", "content": "a mill"},
    ]
    # The same, sent back by the client as it came.
    sent: Any = [
        {"role": "user", "content": "what?"},
        *[item.model_dump(exclude_none=True) for item in first.output],
        output,
    ]
    async with answering(hand, "A mill.") as taken_again:
        await ai.responses.create(model=MODEL, input=sent, tools=tools)
    again = taken_again[0].spec.body["messages"]
    assert again[1] == {**spoken, "content": "", "tool_calls": calls}
    assert again[2] == taken[0].spec.body["messages"][2]
    assert second.previous_response_id == first.id


async def test_a_conversation_goes_on_without_earlier_instructions(
    ai: openai.AsyncOpenAI, hand: Hand
) -> None:
    name: Any = openai.omit
    for number in range(3):
        async with answering(hand, f"answer {number}") as taken:
            response = await ai.responses.create(
                model=MODEL,
                instructions=f"rule {number}",
                input=f"question {number}",
                previous_response_id=name,
            )
        name = response.id
    assert [message["content"] for message in taken[0].spec.body["messages"]] == [
        "rule 2", "question 0", "answer 0", "question 1", "answer 1", "question 2",
    ]  # fmt: skip
    items = [item async for item in ai.responses.input_items.list(name, order="asc", limit=2)]
    texts = [item.content[0].text for item in items]  # type: ignore[union-attr]
    assert texts == ["question 0", "answer 0", "question 1", "answer 1", "question 2"]
    newest = await ai.responses.input_items.list(name, limit=1)
    assert (newest.data[0].id, newest.has_more) == (items[-1].id, True)


async def test_a_limit_that_was_reached_makes_it_incomplete(
    ai: openai.AsyncOpenAI, hand: Hand
) -> None:
    async def work() -> None:
        job = await hand.take()
        await hand.write(
            job, ("delta", says("Hel", finish_reason="length")), ending=Ending(Status.COMPLETED)
        )

    response, _ = await asyncio.gather(ai.responses.create(model=MODEL, input="hello"), work())
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    assert response.output_text == "Hel"


# --- streams --------------------------------------------------------------------------


async def test_a_stream_can_be_read_again_after_any_number(
    ai: openai.AsyncOpenAI, hand: Hand
) -> None:
    async with answering(hand, "Hello", " there"):
        stream = await ai.responses.create(model=MODEL, input="hello", stream=True)
        events = [event async for event in stream]
    assert [event.type for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    first, last = events[0], events[-1]
    assert first.type == "response.created"
    assert last.type == "response.completed"
    name = first.response.id
    assert await ai.responses.retrieve(name) == last.response
    for after in (None, 0, 4, len(events) - 1):
        more: Any = openai.omit if after is None else after
        again = await ai.responses.retrieve(name, stream=True, starting_after=more)
        rest = [event async for event in again]
        assert rest == (events if after is None else events[after + 1 :])


async def test_a_background_stream_that_was_left_goes_on_and_is_resumed(
    ai: openai.AsyncOpenAI, hand: Hand, client: httpx2.AsyncClient
) -> None:
    stream = await ai.responses.create(model=MODEL, input="hi", background=True, stream=True)
    job = await hand.take()
    await hand.say(job, "one")
    seen = []
    async for event in stream:
        seen.append(event)
        if event.type == "response.output_text.delta":
            break
    await stream.close()
    assert [event.type for event in seen[:2]] == ["response.created", "response.queued"]
    assert await status_of(client, job.id) == "in_progress"
    name = job.id.replace("job_", "resp_")
    running = await ai.responses.retrieve(name)
    assert (running.status, running.output, running.background) == ("in_progress", [], True)
    await hand.answer(job, " two")
    again = await ai.responses.retrieve(name, stream=True, starting_after=seen[-1].sequence_number)
    rest = [event async for event in again]
    assert [event.sequence_number for event in rest] == list(range(len(seen), len(seen) + 5))
    assert rest[0].type == "response.output_text.delta"
    assert rest[0].delta == " two"


async def test_a_stream_of_a_foreground_response_that_is_left_cancels_it(
    ai: openai.AsyncOpenAI, hand: Hand, client: httpx2.AsyncClient
) -> None:
    stream = await ai.responses.create(model=MODEL, input="hi", stream=True)
    job = await hand.take()
    await hand.say(job, "one")
    async for event in stream:
        if event.type == "response.output_text.delta":
            break
    await stream.close()

    await end_when_cancelled(hand, job)
    await until_status(client, job.id, "cancelled")


async def test_the_stream_on_the_wire(client: httpx2.AsyncClient, hand: Hand) -> None:
    async with answering(hand, "hi") as taken:
        response, events = await read_stream(client, URL, "POST", json=body(stream=True))
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["x-penstock-job"] == taken[0].id
    assert [event.event for event in events] == [event.json["type"] for event in events]
    assert [event.id for event in events] == [str(number) for number in range(len(events))]


async def test_a_failure_in_a_stream_is_a_failed_response(
    ai: openai.AsyncOpenAI, hand: Hand
) -> None:
    task = asyncio.create_task(hand.fail_after("a", EngineError("the engine broke")))
    stream = await ai.responses.create(model=MODEL, input="hi", stream=True)
    last = [event async for event in stream][-1]
    await task
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert last.response.error.message == "the engine broke"
    assert await ai.responses.retrieve(last.response.id) == last.response


# --- background, cancel, delete -------------------------------------------------------


async def test_a_background_response_is_polled_until_it_is_done(
    ai: openai.AsyncOpenAI, hand: Hand
) -> None:
    queued = await ai.responses.create(model=MODEL, input="hi", background=True)
    assert (queued.status, queued.output, queued.usage) == ("queued", [], None)
    await hand.answer(await hand.take(), "done")
    done = await ai.responses.retrieve(queued.id)
    assert (done.status, done.output_text) == ("completed", "done")


async def test_cancelling_stops_a_response_and_can_be_repeated(
    ai: openai.AsyncOpenAI, hand: Hand
) -> None:
    queued = await ai.responses.create(model=MODEL, input="hi", background=True)
    job = await hand.take()
    cancelled, _ = await asyncio.gather(
        ai.responses.cancel(queued.id), end_when_cancelled(hand, job)
    )
    assert cancelled.status == "cancelled"
    assert await ai.responses.cancel(queued.id) == cancelled
    async with answering(hand, "done"):
        other = await ai.responses.create(model=MODEL, input="hi")
    assert (await ai.responses.cancel(other.id)).status == "completed"


async def test_a_deleted_response_is_gone_and_a_running_one_stays(
    ai: openai.AsyncOpenAI, hand: Hand
) -> None:
    queued = await ai.responses.create(model=MODEL, input="hi", background=True)
    with pytest.raises(openai.ConflictError):
        await ai.responses.delete(queued.id)
    await hand.answer(await hand.take(), "done")
    raw = await ai.responses.with_raw_response.delete(queued.id)
    assert raw.http_response.json() == {"id": queued.id, "object": "response", "deleted": True}
    for call in (ai.responses.retrieve, ai.responses.cancel, ai.responses.delete):
        with pytest.raises(openai.NotFoundError):
            await call(queued.id)
    with pytest.raises(openai.BadRequestError) as refused:
        await ai.responses.create(model=MODEL, input="hi", previous_response_id=queued.id)
    assert refused.value.param == "previous_response_id"


@pytest.fixture
async def hidden(ai: openai.AsyncOpenAI, client: httpx2.AsyncClient, hand: Hand) -> list[str]:
    """Ids under which no stored response is found."""
    async with answering(hand, "a", jobs=2):
        unstored = await ai.responses.create(model=MODEL, input="hi", store=False)
        chat = await client.post(
            "/v1/chat/completions",
            json={"model": MODEL, "messages": [{"role": "user", "content": "hi"}]},
        )
    chat_name = chat.headers["x-penstock-job"].replace("job_", "resp_")
    return [unstored.id, chat_name, "resp_" + "0" * 32, "resp_", "x", "resp_é", "job_" + "0" * 32]


async def test_what_is_not_stored_or_no_response_is_not_found(
    ai: openai.AsyncOpenAI, hidden: list[str]
) -> None:
    for name in hidden:
        for call in (ai.responses.retrieve, ai.responses.cancel, ai.responses.delete):
            with pytest.raises(openai.NotFoundError):
                await call(name)
        with pytest.raises(openai.NotFoundError):
            await ai.responses.input_items.list(name)


async def test_another_accounts_response_looks_unknown(
    ai: openai.AsyncOpenAI, other: httpx2.AsyncClient, hand: Hand
) -> None:
    async with answering(hand, "secret"):
        mine = await ai.responses.create(model=MODEL, input="hi")
    path = f"{URL}/{mine.id}"
    unknown = f"{URL}/resp_{'0' * 32}"
    for method, more in (
        ("GET", ""), ("GET", "?stream=true"), ("GET", "/input_items"), ("POST", "/cancel"),
        ("DELETE", ""),
    ):  # fmt: skip
        answers = [await other.request(method, where + more) for where in (path, unknown)]
        assert {answer.status_code for answer in answers} == {404}
        codes = {answer.json()["error"]["code"] for answer in answers}
        assert codes == {"job_not_found"}
    going_on = await other.post(URL, json=body(previous_response_id=mine.id))
    assert going_on.status_code == 400


async def test_the_same_key_gives_the_same_response(client: httpx2.AsyncClient, hand: Hand) -> None:
    headers = {"Idempotency-Key": "once"}
    first = await client.post(URL, json=body(background=True), headers=headers)
    await hand.answer(await hand.take(), "done")
    second = await client.post(URL, json=body(background=True), headers=headers)
    assert second.headers["idempotency-replayed"] == "true"
    assert second.json()["id"] == first.json()["id"]
    assert (first.json()["status"], second.json()["status"]) == ("queued", "completed")


# --- refusals -------------------------------------------------------------------------


async def test_what_the_engine_refuses_is_named_as_the_client_knows_it(
    ai: openai.AsyncOpenAI, hand: Hand
) -> None:
    async def refuse() -> None:
        job = await hand.take()
        error = ContextLengthExceeded("too long", param="messages")
        await hand.finish(job, Status.FAILED, error)

    task = asyncio.create_task(refuse())
    with pytest.raises(openai.BadRequestError) as refused:
        await ai.responses.create(model=MODEL, input="hi")
    await task
    assert (refused.value.code, refused.value.param) == ("context_length_exceeded", "input")


async def test_only_an_answer_can_be_gone_on_from(ai: openai.AsyncOpenAI, hand: Hand) -> None:
    queued = await ai.responses.create(model=MODEL, input="hi", background=True)
    with pytest.raises(openai.BadRequestError) as refused:
        await ai.responses.create(model=MODEL, input="hi", previous_response_id=queued.id)
    assert "queued" in refused.value.message
    await hand.answer(await hand.take(), "done")
    for path in ("?starting_after=-1", "?stream=maybe", "/input_items?limit=0"):
        with pytest.raises(openai.BadRequestError):
            await ai.get(f"/responses/{queued.id}{path}", cast_to=object)
    with pytest.raises(openai.BadRequestError) as unknown:
        await ai.responses.input_items.list(queued.id, after="msg_x")
    assert unknown.value.param == "after"


class TestOnSharedApi(OnSharedApi):
    @pytest.mark.parametrize(
        ("fields", "param", "code"),
        [
            ({"input": None}, "input", "invalid_job"),
            ({"input": []}, "input", "invalid_job"),
            ({"input": 5}, "input", "invalid_job"),
            ({"input": ["x"]}, "input[0]", "invalid_job"),
            ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role", "invalid_job"),
            ({"input": [{"role": "user", "content": 5}]}, "input[0].content", "invalid_job"),
            (
                {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]},
                "input[0].content[0]",
                "invalid_job",
            ),
            ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].id", "invalid_job"),
            (
                {"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]},
                "input[0].call_id",
                "invalid_job",
            ),
            ({"max_output_tokens": 0}, "max_output_tokens", "invalid_job"),
            ({"max_output_tokens": 4097}, "max_output_tokens", "context_length_exceeded"),
            ({"temperature": "hot"}, "temperature", "invalid_job"),
            ({"tools": [{"type": "function"}]}, "tools[0].name", "invalid_job"),
            ({"tools": [{"type": "web_search"}]}, "tools[0].type", "unsupported_parameter"),
            ({"tool_choice": "required"}, "tool_choice", "invalid_job"),
            ({"text": {"format": {"type": "xml"}}}, "text.format.type", "invalid_job"),
            ({"include": ["everything"]}, "include[0]", "invalid_job"),
            ({"stream_options": {"include_obfuscation": True}}, "stream_options", "invalid_job"),
            ({"background": True, "store": False}, "background", "invalid_job"),
            ({"previous_response_id": "resp_x"}, "previous_response_id", "invalid_job"),
            ({"unknown": 1}, "unknown", "invalid_job"),
            ({"conversation": "conv_1"}, "conversation", "unsupported_parameter"),
            ({"prompt": {"id": "pmpt_1"}}, "prompt", "unsupported_parameter"),
            ({"moderation": {}}, "moderation", "unsupported_parameter"),
            ({"prompt_cache_retention": "24h"}, "prompt_cache_retention", "unsupported_parameter"),
            ({"context_management": [{}]}, "context_management", "unsupported_parameter"),
        ],
        ids=lambda value: str(value)[:40],
    )
    async def test_a_wrong_field_is_named(
        self, client: httpx2.AsyncClient, fields: dict[str, Any], param: str, code: str
    ) -> None:
        refused = await client.post(URL, json=body(**fields))
        assert refused.status_code == 400, refused.text
        error = refused.json()["error"]
        assert (error["param"], error["code"]) == (param, code)
