"""Clients see a job's cost when it ends, and the ledger records the same cost."""

import sqlite3
from decimal import Decimal
from typing import Any

import httpx2
import openai
import pytest

from core.db.database import Database
from core.settings.tree import Settings
from jobs.status import Status
from jobs.store.job_store import JobStore
from tests.integration.api.conftest import (
    MODEL,
    Hand,
    RunningApi,
    WithoutDatabase,
    answering,
    chat_body,
    read_stream,
    refreshed,
    submit,
)
from tests.support.ledger import a_price, consuming, until_consumed, usage_of
from tests.support.waiting import eventually

HEADER = "X-Penstock-Price-Version"


pytestmark = pytest.mark.settings(retention__start="archive", retention__seconds=1)


@pytest.fixture
async def price(database: Database, api: RunningApi) -> str:
    """Set the model's price, and have the API read it."""
    found = await a_price(database, MODEL)
    await refreshed(api)
    return found.id


async def test_cost_is_there_when_the_job_ends_and_equals_the_ledger(
    price: str, client: httpx2.AsyncClient, hand: Hand, store: JobStore, database: Database
) -> None:
    job_id = await submit(client, service_tier="priority")
    waiting = (await client.get(f"/v1/jobs/{job_id}")).json()
    assert (waiting["cost"], waiting["cost_note"]) == (None, None)
    await hand.answer(await hand.take(), "a", "b")

    answer = await client.get(f"/v1/jobs/{job_id}")

    cost = answer.json()["cost"]
    assert answer.headers[HEADER] == price == cost["price_version"]
    # 3 input tokens at 0.20, 2 cached ones at 0.05, 2 output tokens at 0.30, all times 1.5
    assert Decimal(cost["total"]) == Decimal("1.95e-6")
    assert answer.json()["result"]["usage"]["cost_details"] == cost
    async with consuming(store, database):
        await until_consumed(store)
    row = (await usage_of(database))[job_id]
    assert row.price_version_id == price
    assert row.input_amount + row.cached_amount + row.output_amount == Decimal(cost["total"])


async def test_openai_answers_carry_it_in_usage(
    price: str, ai: openai.AsyncOpenAI, hand: Hand
) -> None:
    async with answering(hand, "a", jobs=2):
        raw = await ai.chat.completions.with_raw_response.create(**chat_body())
        usage: Any = raw.parse().usage
        assert raw.headers[HEADER] == price
        assert usage.cost_details["price_version"] == price
        assert usage.cost == float(usage.cost_details["total"]) > 0
        stream = await ai.chat.completions.create(
            **chat_body(), stream=True, stream_options={"include_usage": True}
        )
        last: Any = [chunk async for chunk in stream][-1].usage
        assert (last.cost, last.cost_details) == (usage.cost, usage.cost_details)


@pytest.mark.usefixtures("price")
async def test_the_generate_routes_end_with_it(client: httpx2.AsyncClient, hand: Hand) -> None:
    async with answering(hand, "a", jobs=2):
        whole = await client.post("/v1/generate", json={"prompt": "hi"})
        _, events = await read_stream(client, "/v1/generate/stream", "POST", json={"prompt": "hi"})

    usage = whole.json()["usage"]
    assert events[-1].json["usage"] == usage
    assert usage["cost"] == float(usage["cost_details"]["total"]) > 0


async def test_the_stream_ends_with_it(price: str, client: httpx2.AsyncClient, hand: Hand) -> None:
    job_id = await submit(client)
    await hand.answer(await hand.take(), "a")

    _, events = await read_stream(client, f"/v1/jobs/{job_id}/stream")

    job = (await client.get(f"/v1/jobs/{job_id}")).json()
    assert events[-2].json["cost"] == job["cost"]
    assert events[-2].json["cost"]["price_version"] == price


async def test_a_failed_job_costs_nothing(
    price: str, client: httpx2.AsyncClient, hand: Hand
) -> None:
    job_id = await submit(client)
    job = await hand.take()
    await hand.say(job, "half")
    await hand.finish(job, Status.FAILED)

    shown = (await client.get(f"/v1/jobs/{job_id}")).json()

    assert shown["cost"]["total"] == "0"
    assert shown["cost"]["price_version"] == price


async def test_without_a_price_it_says_so(client: httpx2.AsyncClient, hand: Hand) -> None:
    job_id = await submit(client)
    await hand.answer(await hand.take(), "a")

    answer = await client.get(f"/v1/jobs/{job_id}")

    assert answer.json()["cost"] is None
    assert "had no price" in answer.json()["cost_note"]
    assert HEADER not in answer.headers


class TestWithoutDatabase(WithoutDatabase):
    async def test_jobs_run_and_the_cost_is_said_to_be_unknown(
        self, client: httpx2.AsyncClient, hand: Hand
    ) -> None:
        job_id = await submit(client)
        await hand.answer(await hand.take(), "a")

        answer = await client.get(f"/v1/jobs/{job_id}")

        assert answer.status_code == 200
        assert answer.json()["status"] == "completed"
        assert answer.json()["cost"] is None
        assert "temporarily unavailable" in answer.json()["cost_note"]
        assert (await client.get("/v1/jobs/job_" + "0" * 32)).status_code == 404
        # Erased from Redis; whether from the archive too cannot be known.
        assert (await client.delete(f"/v1/jobs/{job_id}")).status_code == 503
        assert (await client.get(f"/v1/jobs/{job_id}")).status_code == 503


async def past_retention(store: JobStore, client: httpx2.AsyncClient, database: Database) -> str:
    """Run a job to its end, archive it, and let Redis forget it."""
    job_id = await submit(client)
    hand = Hand(store)
    await hand.answer(await hand.take(), "a", "b")
    async with consuming(store, database):
        await until_consumed(store)

    async def gone() -> bool:
        return not await store.redis.exists(store.keys.job(job_id))

    await eventually(gone)
    return job_id


async def test_after_retention_the_archive_answers_and_only_its_owner(
    price: str,
    client: httpx2.AsyncClient,
    other: httpx2.AsyncClient,
    store: JobStore,
    database: Database,
) -> None:
    job_id = await past_retention(store, client, database)

    job = (await client.get(f"/v1/jobs/{job_id}")).json()

    assert job["status"] == "completed"
    assert job["result"]["choices"][0]["message"]["content"] == "ab"
    assert job["cost"]["price_version"] == price
    assert (await client.get(f"/v1/jobs/{job_id}/result")).status_code == 200
    assert (await other.get(f"/v1/jobs/{job_id}")).status_code == 404


async def test_an_erased_job_leaves_the_archive_and_stays_billed(
    client: httpx2.AsyncClient,
    other: httpx2.AsyncClient,
    store: JobStore,
    database: Database,
    settings: Settings,
) -> None:
    job_id = await past_retention(store, client, database)

    assert (await other.delete(f"/v1/jobs/{job_id}")).status_code == 404
    assert (await client.delete(f"/v1/jobs/{job_id}")).status_code == 204

    assert (await client.get(f"/v1/jobs/{job_id}")).status_code == 410
    file = settings.database.url.get_secret_value().partition("///")[2]
    with sqlite3.connect(file) as plain:
        assert plain.execute("SELECT count(*) FROM archived_jobs").fetchone() == (0,)
    plain.close()
    assert job_id in await usage_of(database)
