"""The operator's queue routes and commands: list, pause, drain, resume, purge."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import select

from core.db.database import Database
from core.db.tables.audit import AuditEntryRow
from jobs.model_registry import ModelRegistry, ServedModel
from jobs.store.job_store import JobStore
from jobs.store.queue_control import SLICE, QueueMode
from tests.integration.api.conftest import (
    MODEL,
    Hand,
    Keys,
    RunningApi,
    chat_job,
    read_stream,
    services,
    status_of,
    submit,
)
from tests.integration.api.test_budgets import take_away
from tests.support.commands import Done, penstock
from tests.support.invariants import check_jobs, check_nothing_left
from tests.support.jobs import submission

QUEUES = "/v1/admin/queues"


async def act(operator: httpx2.AsyncClient, verb: str) -> dict[str, Any]:
    response = await operator.post(f"{QUEUES}/{MODEL}/{verb}")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def entries(api: RunningApi) -> list[tuple[str, str, dict[str, Any]]]:
    database = Database(api.settings.database, "test")
    async with database.read() as connection:
        rows = await connection.execute(
            select(AuditEntryRow.action, AuditEntryRow.target, AuditEntryRow.details)
            .where(AuditEntryRow.target == MODEL)
            .order_by(AuditEntryRow.id)
        )
        found = [(action, target, details) for action, target, details in rows]
    await database.close()
    return found


async def test_queues_are_listed_as_they_stand(
    operator: httpx2.AsyncClient, client: httpx2.AsyncClient, store: JobStore, hand: Hand
) -> None:
    await store.renew(MODEL, "w", 4, b"{}", [])
    for _ in range(3):
        await submit(client)
    await submit(client, service_tier="flex")
    await hand.take()
    (queue,) = (await operator.get(QUEUES)).json()["data"]
    assert queue["model"] == MODEL
    assert queue["mode"] == "open"
    assert queue["changed_by"] is None
    assert (queue["ready"], queue["running"], queue["workers"], queue["slots"]) == (3, 1, 1, 4)
    assert queue["ready_by_tier"] == {"priority": 0, "default": 2, "flex": 1}


async def test_a_paused_queue_accepts_and_does_not_start(
    operator: httpx2.AsyncClient, client: httpx2.AsyncClient, store: JobStore, hand: Hand
) -> None:
    running = await submit(client)
    taken = await hand.take()
    paused = await act(operator, "pause")
    assert (paused["mode"], paused["running"]) == ("paused", 1)
    assert paused["changed_by"].startswith("key_")
    assert paused["changed_at"] > 1_700_000_000
    await submit(client)
    assert await store.claim(MODEL, "hand", 5) == []
    await hand.answer(taken, "goes on")
    assert await status_of(client, running) == "completed"
    assert (await act(operator, "resume"))["mode"] == "open"
    await hand.answer(await hand.take(), "later")


async def test_a_drained_queue_refuses_and_goes_on(
    operator: httpx2.AsyncClient, client: httpx2.AsyncClient, hand: Hand
) -> None:
    await submit(client)
    assert (await act(operator, "drain"))["mode"] == "draining"
    refused = await client.post("/v1/jobs", json=chat_job())
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "30")
    await hand.answer(await hand.take(), "goes on")
    await act(operator, "resume")
    await submit(client)


@pytest.mark.parametrize("mode", list(QueueMode))
async def test_each_action_turns_only_its_own_switch(
    operator: httpx2.AsyncClient, mode: QueueMode
) -> None:
    after = {
        "pause": (mode.accepts, False),
        "drain": (False, mode.runs),
        "close": (False, False),
        "resume": (True, True),
    }
    for verb, switches in after.items():
        changed = await operator.patch(f"{QUEUES}/{MODEL}", json={"mode": mode})
        assert changed.status_code == 200, changed.text
        now = QueueMode((await act(operator, verb))["mode"])
        assert (now.accepts, now.runs) == switches, verb


async def test_draining_a_paused_queue_does_not_start_it(
    operator: httpx2.AsyncClient, client: httpx2.AsyncClient, store: JobStore, hand: Hand
) -> None:
    waiting = await submit(client)
    await act(operator, "pause")
    await act(operator, "drain")
    assert await store.claim(MODEL, "hand", 5) == []
    refused = await client.post("/v1/jobs", json=chat_job())
    assert (refused.status_code, refused.json()["code"]) == (503, "queue-draining")
    await operator.patch(f"{QUEUES}/{MODEL}", json={"mode": "draining"})
    await hand.answer(await hand.take(), "runs now")
    assert await status_of(client, waiting) == "completed"


async def test_an_unknown_mode_is_refused_with_the_known_ones(operator: httpx2.AsyncClient) -> None:
    refused = await operator.patch(f"{QUEUES}/{MODEL}", json={"mode": "stopped"})
    assert refused.status_code == 422
    assert "mode" in refused.json()["detail"]
    assert "draining" in refused.json()["detail"]


async def test_a_job_of_a_paused_queue_has_no_estimate_and_says_why(
    operator: httpx2.AsyncClient, client: httpx2.AsyncClient, store: JobStore, hand: Hand
) -> None:
    await submit(client)
    await store.renew(MODEL, "hand", 4, b"{}", [])
    await hand.answer(await hand.take(), "measured")
    job = f"/v1/jobs/{await submit(client)}"
    open_job = (await client.get(job)).json()
    assert open_job["eta"]["seconds"] >= 0
    assert open_job["eta_note"] is None
    await act(operator, "pause")
    paused = (await client.get(job)).json()
    assert (paused["eta"], paused["eta_note"]) == (None, "queue_paused")
    assert paused["queue_position"] == 1
    (listed,) = (await client.get("/v1/jobs?status=queued")).json()["data"]
    assert (listed["eta"], listed["eta_note"]) == (None, "queue_paused")


async def test_a_purge_ends_all_that_waits_like_any_cancelled_job(
    operator: httpx2.AsyncClient, client: httpx2.AsyncClient, store: JobStore, hand: Hand
) -> None:
    running = await submit(client)
    taken = await hand.take()
    waiting = [await submit(client) for _ in range(3)]
    stream = asyncio.create_task(read_stream(client, f"/v1/jobs/{waiting[0]}/stream"))
    await asyncio.sleep(0.2)
    purged = await act(operator, "purge")
    assert (purged["cancelled"], purged["complete"], purged["ready"]) == (3, True, 0)
    _, events = await stream
    assert [event.event for event in events if event.event] == ["finished", "done"]
    assert [await status_of(client, job) for job in waiting] == ["cancelled"] * 3
    assert await status_of(client, running) == "in_progress"
    await hand.answer(taken, "goes on")
    await check_jobs(store, [running, *waiting])
    await check_nothing_left(store, MODEL)
    assert (await act(operator, "purge"))["cancelled"] == 0


async def test_a_purge_takes_capped_and_delayed_jobs_in_many_slices(
    operator: httpx2.AsyncClient, store: JobStore
) -> None:
    for account in ("a", "b"):
        jobs = [submission(account, queue=MODEL, max_running=1) for _ in range(SLICE + 50)]
        await asyncio.gather(*(store.submit(job) for job in jobs))
    claimed = await store.claim(MODEL, "w", 64)
    assert len(claimed) == 2
    assert (await store.observe(MODEL)).parked > 64
    assert await store.requeue(claimed[0].id, claimed[0].fence, None, delay_seconds=60) == "queued"
    purged = await act(operator, "purge")
    assert (purged["cancelled"], purged["complete"]) == (2 * SLICE + 99, True)
    assert (purged["ready"], purged["parked"], purged["delayed"], purged["running"]) == (0, 0, 0, 1)


async def test_what_is_submitted_after_a_purge_began_is_left_alone(store: JobStore) -> None:
    old = [submission(queue=MODEL) for _ in range(2 * SLICE)]
    await asyncio.gather(*(store.submit(job) for job in old))
    purging = asyncio.create_task(store.control.purge(MODEL))
    new = []
    while not purging.done():
        await asyncio.sleep(0.002)
        new.append((await store.submit(submission(queue=MODEL, account="late"))).id)
    left = {(await store.get(job, "late")).status for job in new[1:]}
    assert left == {"queued"} or not new[1:]
    assert (await purging).cancelled in (2 * SLICE, 2 * SLICE + 1)


async def test_a_purge_that_takes_too_long_says_that_it_is_not_complete(store: JobStore) -> None:
    jobs = [submission(queue=MODEL) for _ in range(SLICE + 1)]
    await asyncio.gather(*(store.submit(job) for job in jobs))
    purged = await store.control.purge(MODEL, seconds=0)
    assert purged == (SLICE, False)
    assert await store.control.purge(MODEL) == (1, True)


async def test_models_with_slashes_have_queues_too(
    operator: httpx2.AsyncClient, store: JobStore
) -> None:
    name = "org/model-7b"
    model = ServedModel(name, 4096, "by hand", 1)
    await ModelRegistry(store.redis, store.keys).register(model)
    response = await operator.post(f"{QUEUES}/{name}/pause")
    assert (response.status_code, response.json()["model"]) == (200, name)
    assert (await store.control.mode(name)).mode is QueueMode.PAUSED
    assert (await store.control.mode(MODEL)).mode is QueueMode.OPEN


@pytest.mark.parametrize("verb", ["pause", "drain", "close", "resume", "purge"])
async def test_an_unknown_queue_is_told_so_and_nothing_is_written(
    operator: httpx2.AsyncClient, api: RunningApi, verb: str
) -> None:
    response = await operator.post(f"{QUEUES}/nope/{verb}")
    assert (response.status_code, response.json()["code"]) == (404, "model-not-found")
    assert response.headers["content-type"] == "application/problem+json"
    assert await entries(api) == []


@pytest.mark.parametrize("verb", ["pause", "drain", "close", "resume", "purge"])
async def test_only_the_operator_may(
    client: httpx2.AsyncClient, store: JobStore, verb: str
) -> None:
    assert (await client.get(QUEUES)).status_code == 403
    assert (await client.post(f"{QUEUES}/{MODEL}/{verb}")).status_code == 403
    assert (await store.control.mode(MODEL)).mode is QueueMode.OPEN


async def test_each_action_stands_in_the_audit_log(
    operator: httpx2.AsyncClient, api: RunningApi
) -> None:
    for verb in ("pause", "drain", "close", "resume", "purge"):
        await act(operator, verb)
    assert await entries(api) == [
        ("queue_mode_set", MODEL, {"verb": "pause", "mode": "paused"}),
        ("queue_mode_set", MODEL, {"verb": "drain", "mode": "closed"}),
        ("queue_mode_set", MODEL, {"verb": "close", "mode": "closed"}),
        ("queue_mode_set", MODEL, {"verb": "resume", "mode": "open"}),
        ("queue_purged", MODEL, {}),
    ]


async def test_a_queue_can_be_paused_while_sql_is_away(
    operator: httpx2.AsyncClient, api: RunningApi, capfd: pytest.CaptureFixture[str]
) -> None:
    await services(api).database.close()
    await asyncio.to_thread(take_away, api.settings)
    paused = await act(operator, "pause")
    assert (paused["mode"], paused["changed_by"][:4]) == ("paused", "key_")
    out, err = capfd.readouterr()
    assert "audit_not_written" in out + err


async def test_the_commands_do_what_the_routes_do(
    api: RunningApi, keys: Keys, store: JobStore, client: httpx2.AsyncClient, tmp_path: Path
) -> None:
    async def run(*words: str) -> Done:
        command = ("queues", *words, "--url", api.url, "--key", keys.admin)
        return await asyncio.to_thread(penstock, *command, directory=tmp_path)

    await submit(client)
    assert json.loads((await run("pause", MODEL, "--json")).stdout)["mode"] == "paused"
    assert "paused" in (await run("list")).stdout
    assert json.loads((await run("drain", MODEL, "--json")).stdout)["mode"] == "closed"
    assert json.loads((await run("set", MODEL, "draining", "--json")).stdout)["mode"] == "draining"
    assert json.loads((await run("close", MODEL, "--json")).stdout)["mode"] == "closed"
    assert json.loads((await run("resume", MODEL, "--json")).stdout)["mode"] == "open"
    unsure = await run("purge", MODEL)
    assert unsure.returncode == 1
    assert (await store.observe(MODEL)).ready["default"] == 1, "it asks first"
    assert "1 jobs cancelled" in (await run("purge", MODEL, "--yes")).stdout
    unknown = await run("pause", "nope")
    assert unknown.returncode == 1
    assert "nope" in unknown.stderr
