"""Deleting accounts: what goes, what stays, and what speaks against it."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from sqlalchemy import func, insert, select

from core.db.database import Database
from core.db.tables.base import now, table_of
from core.db.tables.invoices import AdjustmentRow
from core.db.tables.metadata import metadata
from core.ids import new_id
from intake.operations.account_deletion import KEPT, REMOVED
from jobs.status import Status
from jobs.store.job_store import JobStore
from tests.integration.api.conftest import (
    MODEL,
    Hand,
    Keys,
    RunningApi,
    chat_job,
    connect,
    on_both_databases,
    submit,
)
from tests.support.commands import Done, penstock
from tests.support.ledger import a_price, consuming, until_consumed

PATH = "/v1/accounts/other"

database_url = pytest.fixture(on_both_databases)


async def rows_of(api: RunningApi, account: str) -> dict[str, int]:
    """Count the rows of an account in each table that has some."""
    database = Database(api.settings.database, "test")
    found = {}
    async with database.read() as connection:
        for table in metadata.sorted_tables:
            if "account_id" in table.c:
                query = select(func.count()).where(table.c.account_id == account)
                found[table.name] = await connection.scalar(query) or 0
    await database.close()
    return {name: number for name, number in found.items() if number}


async def delete(operator: httpx2.AsyncClient, **params: Any) -> dict[str, Any]:
    response = await operator.delete(PATH, params=params)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def fill(client: httpx2.AsyncClient, hand: Hand) -> list[str]:
    """Give an account one of everything."""
    job = await submit(client)
    await hand.answer(await hand.take(), "hello")
    assert (await client.post("/v1/keys", json={})).status_code == 201
    user = {"email": "ann@other.example.com", "password": "correct horse battery"}
    assert (await client.post("/v1/users", json=user)).status_code == 201
    assert (await client.post("/v1/auth/login", json=user)).status_code == 200
    hook = {"url": "https://hooks.example.com/in"}
    assert (await client.post("/v1/webhooks", json=hook)).status_code == 201
    line = {"custom_id": "1", "method": "POST", "url": "/v1/completions", "body": {}}
    made = await client.post(
        "/v1/files",
        files={"file": ("in.jsonl", orjson.dumps(line))},
        data={"purpose": "batch"},
    )
    assert made.is_success
    return [job]


def test_every_table_with_an_account_is_kept_or_removed() -> None:
    tables = {table.name for table in metadata.sorted_tables if "account_id" in table.c}
    assert tables <= {*KEPT, *REMOVED}, "say in account_deletion what becomes of the new table"


async def test_everything_of_the_account_goes_and_money_stays(
    api: RunningApi,
    keys: Keys,
    other: httpx2.AsyncClient,
    client: httpx2.AsyncClient,
    operator: httpx2.AsyncClient,
    hand: Hand,
    store: JobStore,
) -> None:
    database = Database(api.settings.database, "test")
    free = dict.fromkeys(("input", "cached_input", "output"), Decimal(0))
    await a_price(database, MODEL, **free)
    mine = await submit(client)
    await hand.answer(await hand.take(), "stays")
    jobs = await fill(other, hand)
    async with consuming(store, database):
        await until_consumed(store)
    await database.close()
    before = await rows_of(api, "other")
    assert {"api_keys", "users", "webhook_endpoints", "files", "archived_jobs"} <= set(before)
    done = await delete(operator)
    assert done["complete"] is True
    assert (done["removed"]["keys"], done["removed"]["users"]) == (2, 1)
    after = await rows_of(api, "other")
    assert set(after) <= {*KEPT, "files"}, "files stay until the store has deleted the bytes"
    for table in ("usage_events", "spending"):
        assert after.get(table) == before.get(table)
    assert (await other.get("/v1/jobs")).status_code == 401
    for job in jobs:
        assert not await store.redis.exists(store.keys.job(job))
    assert (await client.get(f"/v1/jobs/{mine}")).json()["status"] == "completed"
    shown = (await operator.get(PATH)).json()
    assert shown["deleted_at"] is not None
    taken = await operator.post("/v1/accounts", json={"id": "other"})
    assert (taken.status_code, taken.json()["code"]) == (409, "account-exists")
    new_user = await operator.post("/v1/keys", json={"account": "other"})
    assert (new_user.status_code, new_user.json()["code"]) == (404, "account-not-found")
    again = await delete(operator)
    assert again["complete"] is True
    entries = (await operator.get("/v1/audit", params={"account": "other", "limit": 100})).json()
    actions = [entry["action"] for entry in entries["data"]]
    assert actions.count("account_deleted") == 1
    assert len(actions) > 3, "what was done before stays in the audit log"


async def test_open_jobs_speak_against_it_unless_forced(
    other: httpx2.AsyncClient,
    operator: httpx2.AsyncClient,
    store: JobStore,
    hand: Hand,
) -> None:
    waiting = await submit(other)
    refused = await operator.delete(PATH)
    assert (refused.status_code, refused.json()["code"]) == (409, "account-in-use")
    assert "1 jobs" in refused.json()["detail"]
    assert (await other.get(f"/v1/jobs/{waiting}")).status_code == 200, "nothing has changed"
    running = await submit(other)
    taken = await hand.take()
    forced = await delete(operator, force=True)
    assert forced["complete"] is False, "a worker still has a job"
    assert (await other.post("/v1/jobs", json=chat_job())).status_code in (401, 403)
    assert await hand.say(taken, "late") == "cancel"
    await hand.finish(taken, status=Status.CANCELLED)
    assert (await delete(operator, force=True))["complete"] is True
    for job in (waiting, running):
        assert not await store.redis.exists(store.keys.job(job))


async def test_unbilled_usage_speaks_against_it_unless_forced(
    api: RunningApi,
    other: httpx2.AsyncClient,
    operator: httpx2.AsyncClient,
    store: JobStore,
    hand: Hand,
) -> None:
    assert (await other.patch("/v1/account", json={"billing_name": "Other Ltd"})).is_success
    await submit(other)
    await hand.answer(await hand.take(), "hello")
    refused = await operator.delete(PATH)
    assert "not in the ledger yet" in refused.json()["detail"]
    database = Database(api.settings.database, "test")
    async with consuming(store, database):
        await until_consumed(store)
    async with database.write() as connection:
        credit = {
            "id": new_id("adj"),
            "account_id": "other",
            "month": datetime.now(UTC).strftime("%Y-%m"),
            "amount": Decimal(-1),
            "currency": "USD",
            "reason": "goodwill",
            "job_id": None,
            "created_at": now(),
            "created_by": "test",
        }
        await connection.execute(insert(table_of(AdjustmentRow)), [credit])
    await database.close()
    refused = await operator.delete(PATH)
    assert refused.status_code == 409
    assert "usage of a month that is not closed" in refused.json()["detail"]
    assert "adjustments of a month" in refused.json()["detail"]
    assert (await delete(operator, force=True))["complete"] is True
    shown = (await operator.get(PATH)).json()
    assert shown["billing_name"] == "Other Ltd", "the next invoice needs it"


async def test_only_the_operator_deletes_and_not_its_own_account(
    client: httpx2.AsyncClient, operator: httpx2.AsyncClient
) -> None:
    assert (await client.delete(PATH)).status_code == 403
    assert (await operator.delete("/v1/accounts/nope")).status_code == 404
    own = await operator.delete("/v1/accounts/root")
    assert (own.status_code, own.json()["code"]) == (409, "account-in-use")


async def test_the_command_deletes_and_says_what(
    api: RunningApi, keys: Keys, other: httpx2.AsyncClient, tmp_path: Path
) -> None:
    async def run(*words: str) -> Done:
        command = ("accounts", "delete", "other", *words, "--url", api.url, "--key", keys.admin)
        return await asyncio.to_thread(penstock, *command, directory=tmp_path)

    assert (await run()).returncode == 1, "it asks first"
    done = await run("--yes")
    assert "1 keys" in done.stdout, done.stderr
    async with connect(api, keys.other) as gone:
        assert (await gone.get("/v1/me")).status_code == 401
