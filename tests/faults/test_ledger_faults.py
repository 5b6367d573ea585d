"""The ledger has each job once, whichever process dies between a job's end and its bill."""

import asyncio
import random
import shutil
import signal
import sqlite3
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import SecretStr

from billing.budgets.spending import spending_in
from billing.ledger.consumer import GROUP
from billing.ledger.ledger import Ledger
from billing.months import month_of
from billing.reconcile.findings import Findings
from billing.reconcile.run import reconcile
from core.db.database import Database
from core.db.schema_version import upgrade
from core.errors import StoreUnavailable
from core.settings.billing import DatabaseSettings
from core.settings.tree import Settings
from jobs.archive.archived_job import read_finished
from jobs.store.budget_reservations import (
    ACCOUNT,
    BudgetLimit,
    BudgetMonth,
    BudgetReservation,
    SpentAmount,
)
from jobs.store.job_store import JobStore
from jobs.store.store_factory import open_store
from jobs.store.usage_outbox import Outbox, UsageEntry
from tests.conftest import settings_for
from tests.support.databases import PostgresServer
from tests.support.keys import make_key
from tests.support.ledger import a_price, archived, consuming, end_jobs, until_consumed, usage_of
from tests.support.processes import PipelineProcess, connect, pipeline
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(240)


def ledger_settings(server: RedisServer, database: DatabaseSettings, **groups: object) -> Settings:
    return settings_for(
        server,
        database=database.model_dump(),
        billing={"claim_seconds": 0.5, "batch_events": 20},
        retention={"start": "archive"},
        **groups,
    )


@pytest.fixture
def settings(redis_server: RedisServer, database_settings: DatabaseSettings) -> Settings:
    return ledger_settings(redis_server, database_settings)


@asynccontextmanager
async def ledger_on(
    server: RedisServer, given: DatabaseSettings
) -> AsyncIterator[tuple[Settings, JobStore, Database]]:
    """Open a store, and a database that knows a price."""
    settings = ledger_settings(server, given)
    store, database = open_store(settings), Database(given, "test")
    await a_price(database)
    try:
        yield settings, store, database
    finally:
        await database.close()
        await store.close()


async def check_ledger(store: JobStore, database: Database, ids: list[str]) -> None:
    """One event and one archived job per job, as its own record says; nothing to reconcile."""
    events = await usage_of(database)
    assert set(events) == set(ids)
    assert {row.job_id for row in await archived(database)} == set(ids)
    for job_id in ids:
        job, row = await store.get(job_id, "acme"), events[job_id]
        assert (row.status, row.output_tokens) == (job.status, job.output_tokens)
        assert row.output_amount is not None
    await check_holds(store, database)
    findings = Findings(20)
    await reconcile(store, database, month_of(datetime.now(UTC)), findings)
    assert findings.clean, findings.listed
    assert findings.compared["live jobs"] == findings.compared["archived jobs"] == len(ids)


async def check_holds(store: JobStore, database: Database) -> None:
    """Check that no budget is reserved, and that Redis and the ledger agree on the spending."""
    redis, prefix = store.redis, store.keys.prefix
    assert await redis.exists(f"{prefix}:holds") == 0
    bucket = this_month()
    assert await redis.exists(f"{prefix}:held:{bucket.script_args[0]}") == 0
    async with database.read() as connection:
        sums = await spending_in(connection, bucket)
    for one in sums:
        known = await redis.hget(":".join((prefix, "spend", *bucket.script_args)), one.scope)
        assert int(known) == one.spent.nanos


def this_month() -> BudgetMonth:
    return BudgetMonth("acme", month_of(datetime.now(UTC)), "USD")


async def load(store: JobStore, seconds: float) -> list[str]:
    """End jobs with budget reservations, a few at a time."""
    ids: list[str] = []
    bucket = this_month()
    await store.reservations.settle([], [SpentAmount(bucket, ACCOUNT, 0)])
    hold = BudgetReservation(bucket, 50_000, (BudgetLimit(ACCOUNT, 10**12),))
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        ids += await end_jobs(store, 10, reservation=hold)
        await asyncio.sleep(0.02)
    return ids


async def test_a_ledger_process_killed_again_and_again_loses_and_doubles_nothing(
    store: JobStore, database: Database, settings: Settings, tmp_path: Path
) -> None:
    """The price changes in between; each job has the price of its own time."""
    change = datetime.now(UTC) + timedelta(seconds=6)
    new = await a_price(database, valid_from=change, output=Decimal("0.60"))
    old = await a_price(database)
    rng = random.Random(4)
    with pipeline(settings, tmp_path) as running:
        loading = asyncio.create_task(load(store, 12))
        while not loading.done():
            process = running.ledger()
            await eventually_started(process)
            await asyncio.sleep(rng.uniform(0.0, 0.4))
            process.signal(signal.SIGKILL)
            process.wait()
        running.ledger()
        ids = await loading
        await until_consumed(store, 60)
    await check_ledger(store, database, ids)
    rows = (await usage_of(database)).values()
    versions = {False: old.id, True: new.id}
    assert all(row.price_version_id == versions[row.finished_at >= change] for row in rows)
    assert {row.price_version_id for row in rows} == {old.id, new.id}


async def eventually_started(process: PipelineProcess) -> None:
    async def started() -> bool:
        return "ledger_started" in process.output()

    await eventually(started, 30)


@pytest.mark.parametrize("steps", ["read", "read, fetched", "read, fetched, committed"])
async def test_death_between_two_steps_is_made_good_by_another(
    store: JobStore, database: Database, steps: str
) -> None:
    await a_price(database)
    ids = await end_jobs(store, 30)
    dead = Outbox(store.redis, store.keys, GROUP, "dead")
    await dead.open()
    entries = [entry for entry in await dead.read(20) if isinstance(entry, UsageEntry)]
    if "fetched" in steps:
        finished = await read_finished(store, entries)
        if "committed" in steps:
            await Ledger(database).record(entries, finished)
    async with consuming(store, database, claim_seconds=0.1):
        await until_consumed(store)
    await check_ledger(store, database, ids)


async def test_postgres_crashing_in_mid_transaction_changes_nothing(
    redis_server: RedisServer, own_postgres: PostgresServer, tmp_path: Path
) -> None:
    given = DatabaseSettings(url=SecretStr(own_postgres.url()), timeout_seconds=2)
    upgrade(given)
    async with ledger_on(redis_server, given) as (settings, store, database):
        with pipeline(settings, tmp_path) as running:
            ledger = running.ledger()
            await eventually_started(ledger)
            loading = asyncio.create_task(load(store, 8))
            for _ in range(4):
                await asyncio.sleep(1.2)
                await asyncio.to_thread(own_postgres.stop, signal.SIGQUIT)
                await asyncio.to_thread(own_postgres.start)
            ids = await loading
            await until_consumed(store, 60)
            assert ledger.running
        await check_ledger(store, database, ids)


def gauge(process: PipelineProcess, name: str) -> float | None:
    """Return a gauge of a control process as Prometheus would read it."""
    url = f"http://127.0.0.1:{process.settings.control.health_port}/metrics"
    with urllib.request.urlopen(url, timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    found = [line.rpartition(" ")[2] for line in lines if line.startswith(f"{name} ")]
    return float(found[0]) if found else None


async def test_while_sql_is_down_jobs_end_the_backlog_shows_and_nothing_is_lost(
    redis_server: RedisServer, own_postgres: PostgresServer, tmp_path: Path
) -> None:
    given = DatabaseSettings(url=SecretStr(own_postgres.url()), timeout_seconds=2)
    upgrade(given)
    async with ledger_on(redis_server, given) as (settings, store, database):
        await asyncio.to_thread(own_postgres.stop)
        with pipeline(settings, tmp_path) as running:
            ledger, control = running.ledger(), running.control()
            await eventually_started(ledger)
            ids = await load(store, 3)

            async def shown() -> bool:
                return gauge(control, "penstock_outbox_entries") == len(ids)

            await eventually(shown)
            assert (gauge(control, "penstock_outbox_age_seconds") or 0) > 1
            assert "ledger_waits" in ledger.output()
            await asyncio.to_thread(own_postgres.start)
            await until_consumed(store, 60)
        await check_ledger(store, database, ids)


async def test_while_postgres_is_frozen_the_ledger_says_so_and_the_api_answers(
    redis_server: RedisServer, own_postgres: PostgresServer, tmp_path: Path
) -> None:
    given = DatabaseSettings(
        url=SecretStr(own_postgres.url()), timeout_seconds=1, statement_seconds=1
    )
    upgrade(given)
    async with ledger_on(redis_server, given) as (settings, store, database):
        key = make_key(settings)
        with pipeline(settings, tmp_path) as running:
            ledger, api = running.ledger(), running.api()
            await eventually_started(ledger)
            ids = await load(store, 1)
            await asyncio.to_thread(own_postgres.freeze)
            try:
                ids += await load(store, 1)

                async def said_twice() -> bool:
                    return ledger.output().count('"cause": "OperationalError"') >= 2

                await eventually(said_twice, 30)
                async with connect(api, key, timeout=8) as client:
                    assert (await client.get("/v1/usage")).status_code == 503
            finally:
                await asyncio.to_thread(own_postgres.thaw)
            await until_consumed(store, 60)
        await check_ledger(store, database, ids)


async def test_a_locked_sqlite_file_is_waited_for(
    redis_server: RedisServer, sqlite_template: Path, tmp_path: Path
) -> None:
    file = shutil.copy(sqlite_template, tmp_path / "penstock.db")
    given = DatabaseSettings(url=SecretStr(f"sqlite+aiosqlite:///{file}"), timeout_seconds=0.2)
    async with ledger_on(redis_server, given) as (_, store, database):
        ids = await end_jobs(store, 30)
        other = sqlite3.connect(file, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        async with consuming(store, database):
            await asyncio.sleep(1)
            outbox = Outbox(store.redis, store.keys, GROUP, "")
            assert await outbox.backlog() == 30
            other.execute("ROLLBACK")
            await until_consumed(store)
        other.close()
        await check_ledger(store, database, ids)


async def test_redis_restarting_under_the_ledger_changes_nothing(
    database: Database, database_settings: DatabaseSettings, tmp_path: Path
) -> None:
    server = RedisServer("redis", tmp_path / "redis", aof=True)
    server.start()
    store = open_store(ledger_settings(server, database_settings))
    await a_price(database)
    ids: list[str] = []
    async with consuming(store, database, batch_events=20, claim_seconds=0.5):
        for _ in range(3):
            ids += await end_jobs(store, 60)
            await asyncio.to_thread(server.stop, signal.SIGKILL)
            await asyncio.to_thread(server.start)

            async def answers() -> bool:
                return await reachable(store)

            await eventually(answers)
        await until_consumed(store, 60)
    await check_ledger(store, database, ids)
    await store.close()
    server.stop()


async def reachable(store: JobStore) -> bool:
    """Say whether Redis answers."""
    try:
        await store.queues()
    except StoreUnavailable:
        return False
    return True
