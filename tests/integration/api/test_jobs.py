"""The job routes: submit, read, wait, cancel, retry, delete."""

import asyncio
import time
from typing import Any

import httpx2
import pytest

from jobs.store.job_store import JobStore
from tests.integration.api.conftest import (
    MODEL,
    Hand,
    OnSharedApi,
    answering,
    chat_body,
    chat_job,
    status_of,
    submit,
)
from tests.support.machine import is_over
from tests.support.waiting import eventually

FIELDS = {
    "id", "object", "status", "url", "model", "service_tier", "created_at", "started_at",
    "completed_at", "queue_position", "eta", "eta_note", "attempt", "queue_seconds", "run_seconds",
    "usage",
    "cost", "cost_note", "error", "cancel_requested_at", "metadata", "retry_of", "webhook",
    "weights", "on_disconnect", "deadline", "start_by", "urls",
}  # fmt: skip


async def test_a_submission_answers_202_with_the_job_and_where_it_is(
    client: httpx2.AsyncClient,
) -> None:
    response = await client.post("/v1/jobs", json=chat_job(metadata={"a": "b"}))
    job = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert response.headers["retry-after"] == "1"
    assert response.headers["x-request-id"]
    assert set(job) == FIELDS
    assert (job["object"], job["status"], job["model"]) == ("job", "queued", MODEL)
    assert (job["on_disconnect"], job["service_tier"]) == ("continue", "default")
    assert job["metadata"] == {"a": "b"}
    assert abs(job["created_at"] - time.time()) < 60
    read = (await client.get(job["urls"]["self"])).json()
    assert read["queue_position"] == 1
    assert set(read) == FIELDS


async def test_the_worker_sees_the_clients_own_body(client: httpx2.AsyncClient, hand: Hand) -> None:
    body = chat_body(
        stream=True,
        stream_options={"include_usage": True},
        service_tier="flex",
        metadata={"x": "y"},
        temperature=0.5,
        top_k=3,
        user="me",
    )
    await submit(client, body=body)
    job = await hand.take()
    assert job.spec.body == chat_body(temperature=0.5, top_k=3, user="me")
    assert (job.spec.service_tier, job.spec.metadata) == ("flex", {"x": "y"})


async def test_what_the_job_says_wins_over_its_body(client: httpx2.AsyncClient, hand: Hand) -> None:
    body = chat_body(service_tier="flex", metadata={"x": "y"})
    await submit(client, body=body, service_tier="priority", metadata={})
    job = await hand.take()
    assert (job.spec.service_tier, job.spec.metadata) == ("priority", {})


async def test_a_job_is_followed_to_its_result(client: httpx2.AsyncClient, hand: Hand) -> None:
    job_id = await submit(client)
    job = await hand.take()
    running = (await client.get(f"/v1/jobs/{job_id}")).json()
    assert (running["status"], running["attempt"]) == ("in_progress", 1)
    assert running["started_at"] >= running["created_at"]
    assert running["run_seconds"] >= 0
    assert (await client.get(f"/v1/jobs/{job_id}/result")).status_code == 409
    await hand.answer(job, "Hello", " world")
    done = (await client.get(f"/v1/jobs/{job_id}")).json()
    assert done["status"] == "completed"
    assert done["usage"] == {"input_tokens": 5, "cached_input_tokens": 2, "output_tokens": 2}
    assert done["result"]["choices"][0]["message"]["content"] == "Hello world"
    assert done["completed_at"] >= done["started_at"]
    assert done["queue_seconds"] >= 0
    result = (await client.get(f"/v1/jobs/{job_id}/result")).json()
    assert result == done["result"]
    assert result["usage"]["total_tokens"] == 7


async def test_an_unfinished_jobs_result_is_a_conflict_that_names_the_status(
    client: httpx2.AsyncClient,
) -> None:
    job_id = await submit(client)
    response = await client.get(f"/v1/jobs/{job_id}/result")
    assert response.status_code == 409
    assert response.json()["code"] == "result-not-ready"
    assert "queued" in response.json()["detail"]


async def test_long_poll_returns_as_soon_as_the_job_ends(
    client: httpx2.AsyncClient, hand: Hand
) -> None:
    job_id = await submit(client)
    started = time.monotonic()
    poll = asyncio.create_task(client.get(f"/v1/jobs/{job_id}", params={"wait": 15}))
    await hand.answer(await hand.take(), "hi")
    assert (await poll).json()["status"] == "completed"
    assert not is_over(started, 10)


async def test_long_poll_gives_up_after_the_wait(client: httpx2.AsyncClient) -> None:
    job_id = await submit(client)
    started = time.monotonic()
    response = await client.get(f"/v1/jobs/{job_id}", params={"wait": 0.2})
    assert response.json()["status"] == "queued"
    assert time.monotonic() - started > 0.15
    assert not is_over(started, 5)


async def test_a_poll_that_is_left_does_not_cancel(client: httpx2.AsyncClient, hand: Hand) -> None:
    job_id = await submit(client, on_disconnect="cancel")
    with pytest.raises(httpx2.ReadTimeout):
        await client.get(f"/v1/jobs/{job_id}", params={"wait": 30}, timeout=0.3)
    assert await status_of(client, job_id) == "queued"


@pytest.mark.parametrize("wait", ["-1", "61", "soon"])
async def test_a_wait_out_of_range_is_refused(client: httpx2.AsyncClient, wait: str) -> None:
    job_id = await submit(client)
    response = await client.get(f"/v1/jobs/{job_id}", params={"wait": wait})
    assert response.status_code == 422
    assert response.json()["errors"][0]["pointer"] == "/wait"


async def test_prefer_wait_answers_200_when_the_job_is_done_in_time(
    client: httpx2.AsyncClient, hand: Hand
) -> None:
    async with answering(hand, "hi"):
        response = await client.post("/v1/jobs", json=chat_job(), headers={"Prefer": "wait=15"})
    assert response.status_code == 200
    assert response.headers["preference-applied"] == "wait=15"
    assert response.json()["result"]["choices"][0]["message"]["content"] == "hi"


async def test_prefer_wait_answers_202_when_it_is_not(client: httpx2.AsyncClient) -> None:
    response = await client.post("/v1/jobs", json=chat_job(), headers={"Prefer": "wait=1"})
    assert response.status_code == 202
    assert response.json()["status"] == "queued"


async def test_leaving_a_waiting_submission_cancels_only_where_asked(
    client: httpx2.AsyncClient,
) -> None:
    for policy, expected in (("cancel", "cancelled"), ("continue", "queued")):
        with pytest.raises(httpx2.ReadTimeout):
            await client.post(
                "/v1/jobs",
                json=chat_job(on_disconnect=policy, metadata={"p": policy}),
                headers={"Prefer": "wait=30"},
                timeout=0.5,
            )

        async def reached(policy: str = policy, expected: str = expected) -> bool:
            jobs = (await client.get("/v1/jobs")).json()["data"]
            return any(
                job["status"] == expected and job["metadata"] == {"p": policy} for job in jobs
            )

        await eventually(reached)


# --- idempotency ----------------------------------------------------------------------


async def test_the_same_key_and_body_make_one_job(client: httpx2.AsyncClient, hand: Hand) -> None:
    answers = [
        await client.post("/v1/jobs", json=chat_job(), headers={"Idempotency-Key": key})
        for key in ("k1", '"k1"', "k1")
    ]
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert "idempotency-replayed" not in answers[0].headers
    assert [a.headers["idempotency-replayed"] for a in answers[1:]] == ["true", "true"]
    await hand.answer(await hand.take(), "hi")
    again = await client.post("/v1/jobs", json=chat_job(), headers={"Idempotency-Key": "k1"})
    assert again.json()["status"] == "completed"


async def test_the_same_key_with_another_body_is_refused(client: httpx2.AsyncClient) -> None:
    headers = {"Idempotency-Key": "k2"}
    await client.post("/v1/jobs", json=chat_job(), headers=headers)
    second = await client.post("/v1/jobs", json=chat_job(service_tier="flex"), headers=headers)
    assert second.status_code == 422
    assert second.json()["code"] == "idempotency-mismatch"


async def test_keys_of_two_accounts_do_not_meet(
    client: httpx2.AsyncClient, other: httpx2.AsyncClient
) -> None:
    headers = {"Idempotency-Key": "k3"}
    first = await client.post("/v1/jobs", json=chat_job(), headers=headers)
    second = await other.post("/v1/jobs", json=chat_job(), headers=headers)
    assert first.json()["id"] != second.json()["id"]


async def test_a_repeat_is_answered_after_its_limit_has_passed_and_a_new_job_is_refused(
    client: httpx2.AsyncClient,
) -> None:
    limit = time.time() + 0.5
    job = chat_job(start_by=limit, deadline=limit)
    first = await client.post("/v1/jobs", json=job, headers={"Idempotency-Key": "k4"})
    assert first.status_code == 202, first.text

    async def a_new_one_is_refused() -> bool:
        return (await client.post("/v1/jobs", json=job)).status_code == 422

    await eventually(a_new_one_is_refused)
    again = await client.post("/v1/jobs", json=job, headers={"Idempotency-Key": "k4"})
    assert again.status_code == 202, again.text
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["id"] == first.json()["id"]


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "t\tb"])
async def test_an_unusable_key_is_refused_by_name(client: httpx2.AsyncClient, key: str) -> None:
    response = await client.post("/v1/jobs", json=chat_job(), headers={"Idempotency-Key": key})
    assert response.status_code == 400
    assert response.json()["param"] == "Idempotency-Key"


# --- limits in time, and what is not there yet ----------------------------------------


async def test_limits_in_time_are_kept_in_both_forms(client: httpx2.AsyncClient) -> None:
    job_id = await submit(client, start_by=4_000_000_000, deadline="2999-01-01T00:00:00+00:00")
    job = (await client.get(f"/v1/jobs/{job_id}")).json()
    assert job["start_by"] == 4_000_000_000
    assert job["deadline"] == 32_472_144_000


async def test_a_job_that_did_not_start_in_time_is_expired(
    client: httpx2.AsyncClient, store: JobStore
) -> None:
    job_id = await submit(client, start_by=time.time() + 0.2)

    async def swept() -> bool:
        await store.sweep(MODEL)
        return await status_of(client, job_id) == "expired"

    await eventually(swept)
    job = (await client.get(f"/v1/jobs/{job_id}")).json()
    assert job["error"]["code"] == "deadline-exceeded"
    assert job["error"]["status"] == 504
    result = await client.get(f"/v1/jobs/{job_id}/result")
    assert (result.status_code, result.json()["code"]) == (504, "deadline-exceeded")


# --- lists ----------------------------------------------------------------------------


async def test_pages_hold_every_job_once_newest_first(client: httpx2.AsyncClient) -> None:
    made = await asyncio.gather(*(submit(client) for _ in range(23)))
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = (await client.get("/v1/jobs", params={"limit": 5, **after})).json()
        seen += [job["id"] for job in page["data"]]
        assert page["object"] == "list"
        assert page["last_id"] == seen[-1]
        if not page["has_more"]:
            break
        after = {"after": page["last_id"]}
    assert seen == sorted(made, reverse=True)


async def test_a_list_can_be_filtered_by_status(client: httpx2.AsyncClient, hand: Hand) -> None:
    done, waiting = await submit(client), await submit(client)
    await hand.answer(await hand.take(), "hi")
    for status, expected in (("completed", [done]), ("queued", [waiting]), ("failed", [])):
        page = (await client.get("/v1/jobs", params={"status": status})).json()
        assert [job["id"] for job in page["data"]] == expected


async def test_a_list_shows_only_this_accounts_jobs(
    client: httpx2.AsyncClient, other: httpx2.AsyncClient
) -> None:
    await submit(client)
    page = (await other.get("/v1/jobs")).json()
    assert page["data"] == []
    assert (page["last_id"], page["has_more"]) == (None, False)


class TestOnSharedApi(OnSharedApi):
    @pytest.mark.parametrize(
        ("fields", "name"),
        [
            ({"deadline": 1000}, "deadline"),
            ({"start_by": "2020-01-01T00:00:00Z"}, "start_by"),
            ({"deadline": "2999-01-01T00:00:00Z", "start_by": "2999-01-02T00:00:00Z"}, "start_by"),
            ({"deadline": "2999-01-01T00:00:00"}, "deadline"),
            ({"deadline": "tomorrow"}, "deadline"),
            ({"deadline": True}, "deadline"),
            ({"deadline": 1e300}, "deadline"),
            ({"webhook": "http://example.com/hook"}, "webhook"),
            ({"webhook": "ftp://example.com"}, "webhook"),
            ({"webhook": "http://["}, "webhook"),
            ({"webhook": "https://127.0.0.1/"}, "webhook"),
            ({"webhook": "https://" + "a" * 3000}, "webhook"),
            ({"webhook": 7}, "webhook"),
            ({"webhook": {"events": []}}, "webhook.url"),
            ({"webhook": {"url": "https://example.com", "secret": "x"}}, "webhook.secret"),
            (
                {"webhook": {"url": "https://a.example", "events": ["job.began"]}},
                "webhook.events[0]",
            ),
            ({"metadata": {"a": "x" * 20_000}}, "metadata"),
            ({"metadata": {"a": 1}}, "metadata.a"),
            ({"service_tier": "gold"}, "service_tier"),
            ({"on_disconnect": "maybe"}, "on_disconnect"),
            ({"url": "/v1/images"}, "url"),
            ({"priority": 1}, "priority"),
        ],
    )
    async def test_a_wrong_field_is_named(
        self, client: httpx2.AsyncClient, fields: dict[str, Any], name: str
    ) -> None:
        response = await client.post("/v1/jobs", json=chat_job(**fields))
        assert response.status_code == 422, response.text
        problem = response.json()
        assert problem["param"] == name
        assert problem["detail"].startswith(f"{name}: ")

    @pytest.mark.parametrize(
        ("params", "status", "name"),
        [
            ({"after": "nonsense"}, 400, "after"),
            ({"after": ""}, 400, "after"),
            ({"limit": "0"}, 422, "limit"),
            ({"limit": "101"}, 422, "limit"),
            ({"status": "done"}, 422, "status"),
        ],
    )
    async def test_a_wrong_page_is_refused_by_name(
        self, client: httpx2.AsyncClient, params: dict[str, str], status: int, name: str
    ) -> None:
        response = await client.get("/v1/jobs", params=params)
        assert (response.status_code, response.json()["param"]) == (status, name)
