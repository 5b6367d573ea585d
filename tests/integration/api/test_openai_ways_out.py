"""The OpenAI routes off the normal path: failures, preferences, clients that disconnect."""

import asyncio
from typing import Any

import httpx2
import openai
import pytest

from core.errors import (
    ContextLengthExceeded,
    DeadlineExceeded,
    EngineError,
    InvalidJob,
    PipelineError,
    TooManyAttempts,
)
from jobs.status import Status
from tests.integration.api.conftest import (
    CONTEXT,
    MODEL,
    Hand,
    RunningApi,
    answering,
    chat_body,
    read_stream,
    until_status,
)
from tests.support.waiting import eventually

MESSAGES: Any = [{"role": "user", "content": "hello"}]
CHAT = "/v1/chat/completions"


# --- failures of whole answers --------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error", "expected", "code"),
    [
        (Status.FAILED, InvalidJob("no", param="tools"), openai.BadRequestError, "invalid_job"),
        (
            Status.FAILED,
            ContextLengthExceeded("too long", param="messages"),
            openai.BadRequestError,
            "context_length_exceeded",
        ),
        (Status.FAILED, EngineError("broke"), openai.InternalServerError, "engine_error"),
        (Status.FAILED, TooManyAttempts("often"), openai.InternalServerError, "too_many_attempts"),
        (Status.EXPIRED, DeadlineExceeded("late"), openai.InternalServerError, "deadline_exceeded"),
        (Status.CANCELLED, None, openai.ConflictError, "job_cancelled"),
    ],
)
async def test_a_job_that_fails_raises_the_matching_exception(
    ai: openai.AsyncOpenAI,
    hand: Hand,
    status: Status,
    error: PipelineError | None,
    expected: type[openai.APIStatusError],
    code: str,
) -> None:
    async def work() -> None:
        await hand.finish(await hand.take(), status, error)

    task = asyncio.create_task(work())
    with pytest.raises(expected) as caught:
        await ai.chat.completions.create(model=MODEL, messages=MESSAGES)
    await task
    assert caught.value.code == code
    assert caught.value.param == (error.param if error else None)
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert caught.value.response.headers["x-penstock-job"].startswith("job_")


async def test_a_failed_job_is_not_repeated_by_openais_client(
    api: RunningApi, keys: Any, hand: Hand, client: httpx2.AsyncClient
) -> None:
    async def work() -> None:
        await hand.finish(await hand.take(), Status.FAILED, TooManyAttempts("often"))

    task = asyncio.create_task(work())
    async with openai.AsyncOpenAI(base_url=f"{api.url}/v1", api_key=keys.acme) as retrying:
        with pytest.raises(openai.InternalServerError) as caught:
            await retrying.chat.completions.create(model=MODEL, messages=MESSAGES)
    await task
    assert caught.value.status_code == 503
    assert caught.value.response.headers["retry-after"]
    assert len((await client.get("/v1/jobs")).json()["data"]) == 1


async def test_an_unknown_key_and_model_raise_their_exceptions(
    api: RunningApi, ai: openai.AsyncOpenAI
) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        await ai.chat.completions.create(model="nope", messages=MESSAGES)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    assert MODEL in missing.value.message
    async with openai.AsyncOpenAI(base_url=f"{api.url}/v1", api_key="pk_wrong") as stranger:
        with pytest.raises(openai.AuthenticationError) as unknown:
            await stranger.models.list()
    assert unknown.value.code == "invalid_api_key"


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_more_tokens_than_the_context_are_refused_at_admission(
    ai: openai.AsyncOpenAI, field: str
) -> None:
    wanted: Any = {field: CONTEXT + 1}
    with pytest.raises(openai.BadRequestError) as caught:
        await ai.chat.completions.create(model=MODEL, messages=MESSAGES, **wanted)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", field)


@pytest.mark.settings(limits__sync_seconds=0.3)
async def test_a_wait_beyond_the_server_limit_is_a_timeout_and_the_job_goes_on(
    client: httpx2.AsyncClient,
) -> None:
    response = await client.post(CHAT, json=chat_body())
    assert (response.status_code, response.json()["error"]["code"]) == (504, "wait_timeout")
    assert response.headers["x-should-retry"] == "false"
    job = (await client.get(f"/v1/jobs/{response.headers['x-penstock-job']}")).json()
    assert job["status"] == "queued"


# --- preferences ----------------------------------------------------------------------


@pytest.mark.parametrize("streaming", [False, True])
async def test_respond_async_turns_a_call_into_a_job(
    client: httpx2.AsyncClient, hand: Hand, streaming: bool
) -> None:
    response = await client.post(
        CHAT, json=chat_body(stream=streaming), headers={"Prefer": "respond-async"}
    )
    job = response.json()
    assert (response.status_code, job["object"]) == (202, "job")
    assert response.headers["preference-applied"] == "respond-async"
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    await hand.answer(await hand.take(), "hi")
    await until_status(client, job["id"], "completed")


async def test_prefer_wait_hands_over_to_a_job(client: httpx2.AsyncClient) -> None:
    response = await client.post(CHAT, json=chat_body(), headers={"Prefer": "wait=1"})
    assert (response.status_code, response.json()["status"]) == (202, "queued")
    assert response.headers["preference-applied"] == "wait=1"
    assert response.json()["queue_position"] == 1


async def test_prefer_wait_answers_in_time(client: httpx2.AsyncClient, hand: Hand) -> None:
    async with answering(hand, "hi"):
        response = await client.post(
            CHAT, json=chat_body(), headers={"Prefer": "respond-async, wait=15"}
        )
    assert (response.status_code, response.json()["object"]) == (200, "chat.completion")
    assert response.headers["preference-applied"] == "respond-async, wait=15"


async def test_an_idempotent_call_is_answered_from_the_same_job(
    client: httpx2.AsyncClient, hand: Hand
) -> None:
    headers = {"Idempotency-Key": "once"}
    async with answering(hand, "hi"):
        first = await client.post(CHAT, json=chat_body(), headers=headers)
    second = await client.post(CHAT, json=chat_body(), headers=headers)
    assert first.json()["id"] == second.json()["id"]
    assert first.json()["choices"] == second.json()["choices"]
    assert second.headers["idempotency-replayed"] == "true"
    _, events = await read_stream(
        client, CHAT, "POST", json=chat_body(stream=True), headers=headers
    )
    assert events[1].json["choices"][0]["delta"]["content"] == "hi"
    wrong = await client.post(CHAT, json=chat_body(seed=1), headers=headers)
    assert wrong.status_code == 422
    assert wrong.json()["error"]["code"] == "idempotency_mismatch"


# --- leaving --------------------------------------------------------------------------


async def _one_job_is(client: httpx2.AsyncClient, expected: str) -> None:
    async def reached() -> bool:
        jobs = (await client.get("/v1/jobs")).json()["data"]
        return [job["status"] for job in jobs] == [expected]

    await eventually(reached)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, "cancelled"),
        ({"X-On-Disconnect": "continue"}, "queued"),
        ({"Idempotency-Key": "k"}, "queued"),
        ({"Idempotency-Key": "k", "X-On-Disconnect": "cancel"}, "cancelled"),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
async def test_leaving_cancels_unless_the_client_means_to_come_back(
    client: httpx2.AsyncClient, headers: dict[str, str], expected: str, streaming: bool
) -> None:
    with pytest.raises(httpx2.ReadTimeout):
        async with client.stream(
            "POST", CHAT, json=chat_body(stream=streaming), headers=headers, timeout=0.5
        ) as response:
            await response.aread()
    await _one_job_is(client, expected)


async def test_leaving_a_running_stream_reaches_the_worker(
    client: httpx2.AsyncClient, hand: Hand
) -> None:
    async with client.stream("POST", CHAT, json=chat_body(stream=True)) as response:
        job = await hand.take()
        await hand.say(job, "a")
        async for chunk in response.aiter_text():
            if '"a"' in chunk:
                break

    async def told() -> bool:
        return await hand.say(job, "b") == "cancel"

    await eventually(told)


async def test_an_unknown_policy_is_refused(client: httpx2.AsyncClient) -> None:
    response = await client.post(CHAT, json=chat_body(), headers={"X-On-Disconnect": "maybe"})
    assert response.status_code == 400
    assert response.json()["error"]["param"] == "X-On-Disconnect"
