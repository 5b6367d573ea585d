"""The plain generate routes."""

import asyncio

import httpx2
import pytest

from core.errors import EngineError
from jobs.status import Status
from jobs.store.job_store import JobStore
from tests.integration.api.conftest import MODEL, Hand, answering, read_stream, until_status

PATH = "/v1/generate"


async def test_text_in_text_out(client: httpx2.AsyncClient, hand: Hand) -> None:
    async with answering(hand, "Hello", " you") as taken:
        response = await client.post(PATH, json={"prompt": "hi", "max_tokens": 5})
    answer = response.json()
    assert response.status_code == 200
    assert response.headers["x-penstock-job"] == taken[0].id
    assert answer.pop("latency_ms") > 0
    usage = answer.pop("usage")
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (5, 2)
    assert answer == {
        "generated_text": "Hello you",
        "prompt": "hi",
        "finish_reason": "stop",
        "tokens_generated": 2,
        "trace_id": None,
    }
    assert taken[0].spec.url == "/v1/completions"
    assert taken[0].spec.body == {
        "model": MODEL, "prompt": "hi", "max_tokens": 5, "temperature": 0.7, "top_p": 0.9,
    }  # fmt: skip


async def test_stream_chooses_between_the_whole_answer_and_the_stream(
    client: httpx2.AsyncClient, hand: Hand
) -> None:
    async with answering(hand, "x"):
        whole = await client.post(PATH, json={"prompt": "hi", "stream": False})
    assert whole.json()["generated_text"] == "x"
    async with answering(hand, "x"):
        _, events = await read_stream(client, PATH, "POST", json={"prompt": "hi", "stream": True})
    assert [event.event for event in events][-1] == "done"


async def test_a_nucleus_of_nothing_is_greedy(client: httpx2.AsyncClient, hand: Hand) -> None:
    async with answering(hand, "x") as taken:
        await client.post(PATH, json={"prompt": "hi", "top_p": 0, "temperature": 1})
    assert (taken[0].spec.body["temperature"], taken[0].spec.body["top_p"]) == (0, 1)


async def test_the_stream_ends_with_totals(client: httpx2.AsyncClient, hand: Hand) -> None:
    async with answering(hand, "Hello", " you") as taken:
        response, events = await read_stream(
            client, f"{PATH}/stream", "POST", json={"prompt": "hi", "model": MODEL}
        )
    assert response.headers["content-type"].startswith("text/event-stream")
    assert [(event.id, event.json) for event in events[:-1]] == [
        ("2", {"text": "Hello", "sequence_number": 2}),
        ("3", {"text": " you", "sequence_number": 3}),
    ]
    done = events[-1].json
    assert events[-1].event == "done"
    assert done.pop("latency_ms") > 0
    assert done.pop("usage") == {
        "prompt_tokens": 5,
        "completion_tokens": 2,
        "total_tokens": 7,
        "prompt_tokens_details": {"cached_tokens": 2},
    }
    assert done == {
        "job_id": taken[0].id,
        "finish_reason": "stop",
        "tokens_generated": 2,
        "trace_id": None,
        "sequence_number": 5,
    }


async def test_a_restart_is_said_and_a_failure_ends_the_stream(
    client: httpx2.AsyncClient, hand: Hand
) -> None:
    async def work() -> None:
        job = await hand.take()
        await hand.say(job, "old")
        await hand.write(job, ("restarted", {}))
        await hand.finish(job, Status.FAILED, EngineError("broke"))

    task = asyncio.create_task(work())
    _, events = await read_stream(client, f"{PATH}/stream", "POST", json={"prompt": "hi"})
    await task
    assert [event.event for event in events] == ["", "restarted", "error"]
    assert events[-1].json["code"] == "engine-error"


async def test_a_failed_generation_is_a_problem(client: httpx2.AsyncClient, hand: Hand) -> None:
    async def work() -> None:
        await hand.finish(await hand.take(), Status.FAILED, EngineError("broke"))

    task = asyncio.create_task(work())
    response = await client.post(PATH, json={"prompt": "hi"})
    await task
    assert response.status_code == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["code"] == "engine-error"
    assert response.json()["job_id"] == response.headers["x-penstock-job"]


async def test_it_can_become_a_job(client: httpx2.AsyncClient, hand: Hand) -> None:
    response = await client.post(PATH, json={"prompt": "hi"}, headers={"Prefer": "respond-async"})
    assert response.status_code == 202
    await hand.answer(await hand.take(), "hi")
    await until_status(client, response.json()["id"], "completed")


async def test_leaving_cancels(client: httpx2.AsyncClient) -> None:
    with pytest.raises(httpx2.ReadTimeout):
        await client.post(PATH, json={"prompt": "hi"}, timeout=0.5)
    (job,) = (await client.get("/v1/jobs")).json()["data"]
    await until_status(client, job["id"], "cancelled")


async def test_without_any_model_it_says_so(client: httpx2.AsyncClient, store: JobStore) -> None:
    await store.redis.delete(store.keys.models)
    response = await client.post(PATH, json={"prompt": "hi"})
    assert (response.status_code, response.json()["code"]) == (404, "model-not-found")
