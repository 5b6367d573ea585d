"""Retired models: not listed, accepting nothing, and what becomes of their jobs."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import select

from core.db.database import Database
from core.db.tables.audit import AuditEntryRow
from core.settings.tree import Settings
from jobs.model_registry import DECLARED, ModelRegistry, ServedModel
from jobs.store.job_store import JobStore
from tests.integration.api.conftest import (
    MODEL,
    Hand,
    Keys,
    RunningApi,
    chat_job,
    on_both_databases,
    status_of,
    submit,
)
from tests.support.commands import Done, penstock
from tests.support.invariants import check_jobs
from tests.support.jobs import dead_letters, submission
from tests.support.waiting import eventually
from workers.sweeper import Sweeper

MODELS = "/v1/admin/models"

database_url = pytest.fixture(on_both_databases)


async def retire(operator: httpx2.AsyncClient, jobs: str = "refuse") -> dict[str, Any]:
    response = await operator.post(f"{MODELS}/{MODEL}/retire", json={"jobs": jobs})
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def served(client: httpx2.AsyncClient) -> list[str]:
    return [model["id"] for model in (await client.get("/v1/models")).json()["data"]]


async def until_forgotten(client: httpx2.AsyncClient) -> None:
    """Wait until the API has read the models again."""

    async def gone() -> bool:
        return MODEL not in await served(client)

    await eventually(gone)


async def test_an_idle_model_is_gone_at_once_and_accepts_nothing(
    operator: httpx2.AsyncClient, client: httpx2.AsyncClient, store: JobStore
) -> None:
    assert MODEL in await served(client)
    assert (await retire(operator))["state"] == "retired"
    refused = await client.post("/v1/jobs", json=chat_job())
    assert refused.status_code in (404, 503), "also while the API still knows the model"
    await until_forgotten(client)
    refused = await client.post("/v1/jobs", json=chat_job())
    assert (refused.status_code, refused.json()["code"]) == (404, "model-not-found")
    assert (await operator.get("/v1/admin/queues")).json()["data"] == []
    assert await store.queues() == []


async def test_neither_a_worker_nor_a_declaration_brings_it_back(
    operator: httpx2.AsyncClient, client: httpx2.AsyncClient, store: JobStore
) -> None:
    await retire(operator)
    registry = ModelRegistry(store.redis, store.keys)
    model = ServedModel(MODEL, 4096, "vllm", 1)
    for again in (model, ServedModel(MODEL, 4096, DECLARED, 1)):
        await registry.keep(again)
        await registry.register(again)
    assert await registry.list_models() == []
    assert (await operator.post(f"{MODELS}/{MODEL}/restore")).status_code == 204
    assert (await operator.post(f"{MODELS}/{MODEL}/restore")).status_code == 404
    await registry.keep(model)

    async def back() -> bool:
        return MODEL in await served(client)

    await eventually(back)
    await submit(client)


async def test_a_model_with_jobs_is_refused_and_goes_on(
    operator: httpx2.AsyncClient, client: httpx2.AsyncClient, hand: Hand
) -> None:
    job = await submit(client)
    refused = await operator.post(f"{MODELS}/{MODEL}/retire", json={})
    assert (refused.status_code, refused.json()["code"]) == (409, "model-busy")
    assert "1 waiting" in refused.json()["detail"]
    taken = await hand.take()
    refused = await operator.post(f"{MODELS}/{MODEL}/retire", json={})
    assert "1 running" in refused.json()["detail"]
    await hand.answer(taken, "goes on")
    assert await status_of(client, job) == "completed"
    assert (await retire(operator))["state"] == "retired"


async def test_its_jobs_are_finished_first_where_that_is_chosen(
    operator: httpx2.AsyncClient, client: httpx2.AsyncClient, store: JobStore, hand: Hand
) -> None:
    jobs = [await submit(client) for _ in range(2)]
    found = await retire(operator, "finish")
    assert (found["state"], found["waiting"]) == ("retiring", 2)
    await until_forgotten(client)
    for _ in jobs:
        await hand.answer(await hand.take(), "finished")
    assert [await status_of(client, job) for job in jobs] == ["completed"] * 2
    (row,) = (await operator.get(MODELS)).json()["data"]
    assert (row["id"], row["state"], row["waiting"]) == (MODEL, "retired", 0)
    await check_jobs(store, jobs)


async def test_its_jobs_become_dead_letters_where_that_is_chosen(
    operator: httpx2.AsyncClient,
    client: httpx2.AsyncClient,
    store: JobStore,
    hand: Hand,
    settings: Settings,
) -> None:
    running = await submit(client)
    taken = await hand.take()
    waiting = [await submit(client) for _ in range(2)]
    found = await retire(operator, "dead_letter")
    assert (found["state"], found["waiting"], found["running"]) == ("retiring", 0, 1)
    dead = await dead_letters(store, "acme")
    assert {job.id for job in dead} == set(waiting)
    assert {job.error and job.error["code"] for job in dead} == {"model-retired"}
    # The running job's worker goes away: the job comes back and fails too.
    assert await store.requeue(taken.id, taken.fence, None) == "queued"
    await Sweeper(store, settings).sweep_once()
    assert await status_of(client, running) == "failed"
    assert (await operator.get(MODELS)).json()["data"][0]["state"] == "retired"
    await check_jobs(store, [running, *waiting])


async def test_a_job_that_still_knows_a_retired_model_is_refused_by_the_script(
    operator: httpx2.AsyncClient, client: httpx2.AsyncClient, store: JobStore
) -> None:
    await retire(operator)
    with pytest.raises(Exception, match="takes no new jobs"):
        await store.submit(submission(queue=MODEL))
    assert (await store.observe(MODEL)).ready["default"] == 0


async def test_only_the_operator_retires_and_each_time_is_audited(
    operator: httpx2.AsyncClient, client: httpx2.AsyncClient, api: RunningApi
) -> None:
    assert (await client.post(f"{MODELS}/{MODEL}/retire", json={})).status_code == 403
    unknown = await operator.post(f"{MODELS}/nope/retire", json={})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "model-not-found")
    await retire(operator)
    await operator.post(f"{MODELS}/{MODEL}/restore")
    database = Database(api.settings.database, "test")
    async with database.read() as connection:
        rows = await connection.execute(
            select(AuditEntryRow.action, AuditEntryRow.details)
            .where(AuditEntryRow.target == MODEL)
            .order_by(AuditEntryRow.id)
        )
        found = [tuple(row) for row in rows]
    await database.close()
    assert found == [("model_retired", {"jobs": "refuse"}), ("model_restored", {})]


async def test_the_commands_do_what_the_routes_do(
    api: RunningApi, keys: Keys, client: httpx2.AsyncClient, store: JobStore, tmp_path: Path
) -> None:
    async def run(*words: str) -> Done:
        command = ("models", *words, "--url", api.url, "--key", keys.admin)
        return await asyncio.to_thread(penstock, *command, directory=tmp_path)

    assert MODEL in (await run()).stdout
    await submit(client)
    busy = await run("retire", MODEL)
    assert (busy.returncode, "1 waiting" in busy.stderr) == (1, True)
    done = await run("retire", MODEL, "--dead-letter", "--json")
    assert json.loads(done.stdout)["state"] == "retired"
    assert MODEL in (await run("retired")).stdout
    assert (await run("restore", MODEL)).returncode == 0
    assert "No model is retired" in (await run("retired")).stderr
