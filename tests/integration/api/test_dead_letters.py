"""The dead-letter routes and commands: pages, filters, bulk requeue and bulk delete."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import select

from core.db.database import Database
from core.db.tables.audit import AuditEntryRow
from core.errors import EngineError
from jobs.store.job_store import JobStore
from jobs.store.queue_control import PAUSE, ModeChange, QueueMode
from tests.integration.api.conftest import (
    MODEL,
    Hand,
    Keys,
    RunningApi,
    on_both_databases,
    status_of,
    submit,
)
from tests.support.commands import Done, penstock
from tests.support.invariants import check_jobs

PATH = "/v1/dead-letter"

database_url = pytest.fixture(on_both_databases)


async def die(client: httpx2.AsyncClient, hand: Hand, number: int = 1) -> list[str]:
    """Submit jobs and let all their attempts fail."""
    jobs = []
    for _ in range(number):
        jobs.append(await submit(client))
        for _ in range(4):
            job = await hand.take()
            await hand.store.requeue(job.id, job.fence, EngineError("broken"))
    return jobs


async def post(client: httpx2.AsyncClient, verb: str, **body: Any) -> dict[str, Any]:
    response = await client.post(f"{PATH}/{verb}", json=body)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def audited(api: RunningApi) -> list[tuple[str, str, str | None, dict[str, Any]]]:
    database = Database(api.settings.database, "test")
    async with database.read() as connection:
        rows = await connection.execute(
            select(
                AuditEntryRow.action,
                AuditEntryRow.target,
                AuditEntryRow.account_id,
                AuditEntryRow.details,
            )
            .where(AuditEntryRow.action.like("dead_letters%"))
            .order_by(AuditEntryRow.id)
        )
        found = [(action, target, account, details) for action, target, account, details in rows]
    await database.close()
    return found


async def test_a_list_comes_in_pages_and_by_filter(
    client: httpx2.AsyncClient, operator: httpx2.AsyncClient, hand: Hand
) -> None:
    jobs = await die(client, hand, 3)
    first = (await client.get(PATH, params={"limit": 2})).json()
    assert [job["id"] for job in first["data"]] == [jobs[2], jobs[1]]
    assert first["has_more"] is True
    second = (await client.get(PATH, params={"limit": 2, "after": first["last_id"]})).json()
    assert [job["id"] for job in second["data"]] == [jobs[0]]
    assert (second["has_more"], second["last_id"]) == (False, None)
    for params, number in (
        ({"model": MODEL, "reason": "engine-error"}, 3),
        ({"reason": "run-timeout"}, 0),
        ({"failed_before": "2020-01-01T00:00:00Z"}, 0),
        ({"failed_after": "1577836800"}, 3),
    ):
        assert len((await client.get(PATH, params=params)).json()["data"]) == number, params
    own = (await operator.get(PATH, params={"account": "acme"})).json()["data"]
    assert {job["account"] for job in own} == {"acme"}
    assert (await operator.get(PATH, params={"account": "other"})).json()["data"] == []


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"after": "job_1"}, "after"),
        ({"failed_after": "yesterday"}, "failed_after"),
        ({"failed_before": "2026-01-01T00:00:00"}, "failed_before"),
    ],
)
async def test_a_wrong_filter_is_refused_with_its_name(
    client: httpx2.AsyncClient, params: dict[str, str], param: str
) -> None:
    refused = await client.get(PATH, params=params)
    assert refused.status_code in (400, 422)
    assert refused.json()["param"] == param


async def test_many_are_run_again_once_each_and_audited(
    api: RunningApi, client: httpx2.AsyncClient, hand: Hand, store: JobStore
) -> None:
    jobs = await die(client, hand, 3)
    counted = await post(client, "requeue", dry_run=True, reason="engine-error")
    assert (counted["matched"], counted["done"], counted["dry_run"]) == (3, 0, True)
    assert await audited(api) == [], "a count changes nothing"
    first = await post(client, "requeue", limit=2, model=MODEL)
    assert (first["matched"], first["done"], first["has_more"]) == (2, 2, True)
    rest = await post(client, "requeue", after=first["last_id"], model=MODEL)
    assert (rest["matched"], rest["done"], rest["has_more"]) == (1, 1, False)
    again = await post(client, "requeue")
    assert (again["matched"], again["has_more"]) == (0, False)
    new = (await client.get("/v1/jobs", params={"status": "queued"})).json()["data"]
    assert sorted(job["retry_of"] for job in new) == sorted(jobs)
    details = [entry[3] for entry in await audited(api)]
    assert details == [{"jobs": 2, "model": MODEL}, {"jobs": 1, "model": MODEL}]
    await check_jobs(store, jobs)


async def test_a_job_that_may_not_run_stays_and_the_others_go_on(
    client: httpx2.AsyncClient, hand: Hand, store: JobStore
) -> None:
    jobs = await die(client, hand, 2)
    await store.control.change_mode(MODEL, ModeChange.to(QueueMode.DRAINING), "test")
    refused = await post(client, "requeue")
    assert (refused["matched"], refused["done"], refused["has_more"]) == (2, 0, False)
    assert {job["id"]: job["code"] for job in refused["refused"]} == dict.fromkeys(
        jobs, "queue-draining"
    )
    assert len((await client.get(PATH)).json()["data"]) == 2
    await store.control.change_mode(MODEL, ModeChange.to(QueueMode.OPEN), "test")
    await store.control.change_mode(MODEL, PAUSE, "test")
    assert (await post(client, "requeue"))["done"] == 2


async def test_many_are_deleted_and_stay_deleted(
    api: RunningApi, client: httpx2.AsyncClient, hand: Hand
) -> None:
    jobs = await die(client, hand, 2)
    assert (await post(client, "delete", dry_run=True))["matched"] == 2
    done = await post(client, "delete", reason="engine-error")
    assert (done["matched"], done["done"]) == (2, 2)
    assert (await post(client, "delete"))["matched"] == 0
    for job in jobs:
        assert (await client.get(f"/v1/jobs/{job}")).status_code == 410
    assert await audited(api) == [
        ("dead_letters_deleted", "acme", "acme", {"jobs": 2, "reason": "engine-error"})
    ]


async def test_one_is_deleted_by_its_account_or_the_operator(
    client: httpx2.AsyncClient,
    other: httpx2.AsyncClient,
    operator: httpx2.AsyncClient,
    hand: Hand,
) -> None:
    one, two = await die(client, hand, 2)
    assert (await other.delete(f"{PATH}/{one}")).status_code == 404
    assert (await client.delete(f"{PATH}/{one}")).status_code == 204
    assert (await operator.delete(f"{PATH}/{two}")).status_code == 204
    assert (await client.get(PATH)).json()["data"] == []


async def test_no_account_acts_on_another_s(
    client: httpx2.AsyncClient,
    other: httpx2.AsyncClient,
    operator: httpx2.AsyncClient,
    hand: Hand,
) -> None:
    await die(client, hand, 2)
    for verb in ("requeue", "delete"):
        assert (await post(other, verb, dry_run=True))["matched"] == 0
        assert (await post(other, verb))["done"] == 0
        refused = await other.post(f"{PATH}/{verb}", json={"account": "acme"})
        assert (refused.status_code, refused.json()["param"]) == (403, "account")
    assert (await other.get(PATH, params={"account": "acme"})).status_code == 403
    assert (await post(operator, "requeue", dry_run=True))["matched"] == 2
    assert (await post(operator, "requeue", account="acme"))["done"] == 2


async def test_the_commands_do_what_the_routes_do(
    api: RunningApi, keys: Keys, client: httpx2.AsyncClient, hand: Hand, tmp_path: Path
) -> None:
    async def run(*words: str, key: str = keys.admin) -> Done:
        command = ("dead", *words, "--url", api.url, "--key", key)
        return await asyncio.to_thread(penstock, *command, directory=tmp_path)

    jobs = await die(client, hand, 3)
    page = await run("list", "--limit", "1", "--account", "acme")
    assert jobs[2] in page.stdout
    assert "--after" in page.stderr
    assert (await run("requeue")).returncode == 2, "nothing is selected by accident"
    assert "3 dead-letter jobs match" in (await run("requeue", "--all", "--dry-run")).stdout
    unsure = await run("delete", "--model", MODEL)
    assert unsure.returncode == 1, "it asks first"
    assert json.loads((await run("requeue", jobs[0], "--json")).stdout)["retry_of"] == jobs[0]
    assert (await run("delete", jobs[1])).returncode == 0
    rest = await run("requeue", "--reason", "engine-error", "--yes", "--json")
    assert json.loads(rest.stdout)["done"] == 1
    assert await status_of(client, jobs[2]) == "failed"
    assert (await client.get(PATH)).json()["data"] == []
