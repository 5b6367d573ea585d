"""Ends of jobs: cancel, delete, retry, dead letter, a full queue."""

from typing import Any

import httpx2
import orjson
import pytest

from core.errors import EngineError, InvalidJob
from jobs.status import Status
from jobs.store.job_store import JobStore
from tests.integration.api.conftest import (
    Hand,
    chat_job,
    connect,
    status_of,
    submit,
    until_status,
)
from tests.support.invariants import check_jobs

# --- cancel, delete, foreign ----------------------------------------------------------


async def test_cancelling_a_queued_job_is_done_at_once_and_can_be_repeated(
    client: httpx2.AsyncClient,
) -> None:
    job_id = await submit(client)
    for _ in range(2):
        response = await client.post(f"/v1/jobs/{job_id}/cancel")
        assert (response.status_code, response.json()["status"]) == (200, "cancelled")
        assert response.json()["cancel_requested_at"]
    result = await client.get(f"/v1/jobs/{job_id}/result")
    assert (result.status_code, result.json()["code"]) == (409, "result-not-ready")


async def test_cancelling_a_running_job_takes_until_its_worker_knows(
    client: httpx2.AsyncClient, hand: Hand
) -> None:
    job_id = await submit(client)
    job = await hand.take()
    response = await client.post(f"/v1/jobs/{job_id}/cancel")
    assert (response.status_code, response.json()["status"]) == (202, "in_progress")
    assert response.json()["cancel_requested_at"]
    assert await hand.say(job, "x") == "cancel"
    await hand.finish(job, Status.CANCELLED)
    response = await client.post(f"/v1/jobs/{job_id}/cancel")
    assert (response.status_code, response.json()["status"]) == (200, "cancelled")


async def test_a_finished_job_can_be_deleted_and_is_gone(
    client: httpx2.AsyncClient, hand: Hand
) -> None:
    job_id = await submit(client)
    refused = await client.delete(f"/v1/jobs/{job_id}")
    assert (refused.status_code, refused.json()["code"]) == (409, "job-conflict")
    await hand.answer(await hand.take(), "hi")
    assert (await client.delete(f"/v1/jobs/{job_id}")).status_code == 204
    for path in ("", "/stream", "/result"):
        gone = await client.get(f"/v1/jobs/{job_id}{path}")
        assert (gone.status_code, gone.json()["code"]) == (410, "job-gone")
    assert (await client.delete(f"/v1/jobs/{job_id}")).status_code == 410


async def test_foreign_and_unknown_ids_look_the_same_everywhere(
    client: httpx2.AsyncClient, other: httpx2.AsyncClient, hand: Hand
) -> None:
    job_id = await submit(client)
    routes = [
        ("GET", ""), ("GET", "/stream"), ("GET", "/result"), ("POST", "/cancel"),
        ("POST", "/retry"), ("DELETE", ""),
    ]  # fmt: skip
    for method, path in routes:
        answers = []
        for wanted in (job_id, "job_" + "0" * 32):
            answer = await other.request(method, f"/v1/jobs/{wanted}{path}")
            body = {k: v for k, v in answer.json().items() if k != "request_id"}
            answers.append((answer.status_code, orjson.dumps(body).replace(wanted.encode(), b"")))
        assert answers[0] == answers[1]
        assert answers[0][0] == 404
    assert await status_of(client, job_id) == "queued"


# --- retry and dead letter ------------------------------------------------------------


async def test_a_failed_job_runs_again_as_one_new_job(
    client: httpx2.AsyncClient, hand: Hand, store: JobStore
) -> None:
    job_id = await submit(client, metadata={"a": "b"})
    assert (await client.post(f"/v1/jobs/{job_id}/retry")).status_code == 409
    error = InvalidJob("tools: not supported", param="tools")
    await hand.finish(await hand.take(), Status.FAILED, error)
    failed = (await client.get(f"/v1/jobs/{job_id}")).json()
    assert failed["error"]["detail"] == "tools: not supported"
    assert failed["error"]["job_id"] == job_id
    answers = [await client.post(f"/v1/jobs/{job_id}/retry") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    again = answers[0].json()
    assert again["id"] == answers[1].json()["id"] != job_id
    assert answers[0].headers["location"] == f"/v1/jobs/{again['id']}"
    assert (again["retry_of"], again["metadata"]) == (job_id, {"a": "b"})
    await hand.answer(await hand.take(), "hi")
    await until_status(client, again["id"], "completed")
    assert await status_of(client, job_id) == "failed"
    assert (await client.post(f"/v1/jobs/{again['id']}/retry")).status_code == 409
    await check_jobs(store, [job_id, again["id"]])


async def _kill(hand: Hand, store: JobStore, attempts: int) -> None:
    for _ in range(attempts):
        job = await hand.take()
        await store.requeue(job.id, job.fence, EngineError("broken"))


async def test_a_dead_letter_is_listed_and_requeued(
    client: httpx2.AsyncClient,
    other: httpx2.AsyncClient,
    hand: Hand,
    store: JobStore,
) -> None:
    job_id = await submit(client)
    await _kill(hand, store, 4)
    listed = (await client.get("/v1/dead-letter")).json()
    assert [job["id"] for job in listed["data"]] == [job_id]
    assert "account" not in listed["data"][0]
    assert (await other.get("/v1/dead-letter")).json()["data"] == []
    assert (await other.post(f"/v1/dead-letter/{job_id}/requeue")).status_code == 404
    response = await client.post(f"/v1/dead-letter/{job_id}/requeue")
    assert (response.status_code, response.json()["retry_of"]) == (202, job_id)
    assert (await client.get("/v1/dead-letter")).json()["data"] == []


async def test_an_admin_sees_and_requeues_every_accounts_dead_letters(
    client: httpx2.AsyncClient, api: Any, keys: Any, hand: Hand, store: JobStore
) -> None:
    job_id = await submit(client)
    await _kill(hand, store, 4)
    async with connect(api, keys.admin) as admin:
        listed = (await admin.get("/v1/dead-letter")).json()["data"]
        assert [(job["id"], job["account"]) for job in listed] == [(job_id, "acme")]
        again = (await admin.post(f"/v1/dead-letter/{job_id}/requeue")).json()["id"]
        assert (await admin.get(f"/v1/jobs/{again}")).status_code == 404
    assert await status_of(client, again) == "queued"


@pytest.mark.settings(queue__max_queued=3)
async def test_a_full_queue_says_when_to_come_back(
    client: httpx2.AsyncClient,
) -> None:
    for _ in range(3):
        await submit(client)
    response = await client.post("/v1/jobs", json=chat_job())
    assert (response.status_code, response.json()["code"]) == (429, "queue-full")
    assert int(response.headers["retry-after"]) >= 1
    assert response.json()["retry_after"] == int(response.headers["retry-after"])
