"""Webhooks under faults: each event arrives under one id; a slow receiver delays no other.

Real deliverers (`python -m webhooks`), real Redis, real receivers. SQL is SQLite except where
a test says otherwise; `tests/integration/webhooks` tests the differences between databases.
"""

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from core.db.database import Database
from core.db.schema_version import upgrade
from core.settings.billing import DatabaseSettings
from core.settings.tree import Settings
from jobs.store.job_store import JobStore
from jobs.store.store_factory import open_store
from tests.support.databases import PostgresServer
from tests.support.ledger import consuming, end_jobs, until_consumed
from tests.support.processes import Pipeline, PipelineProcess, pipeline
from tests.support.receiver import Receiver, receiving
from tests.support.redis_server import RedisServer
from tests.support.scraping import scrape, value
from tests.support.settings_marker import Groups
from tests.support.waiting import eventually
from tests.support.webhooks import (
    attempts,
    deliveries,
    listen,
    pass_time,
    states,
    tell,
    webhook_settings,
)
from webhooks.tickets import push_tickets

pytestmark = pytest.mark.timeout(240)

SECONDS = 40.0


@pytest.fixture
def database_kind() -> str:
    """SQLite only."""
    return "sqlite"


@pytest.fixture
def settings(
    redis_server: RedisServer, database_settings: DatabaseSettings, marked_settings: Groups
) -> Settings:
    return webhook_settings(redis_server, database_settings, **marked_settings.get("webhooks", {}))


@pytest.fixture
def running(settings: Settings, tmp_path: Path) -> Iterator[Pipeline]:
    with pipeline(settings, tmp_path) as started:
        yield started


async def start(running: Pipeline) -> PipelineProcess:
    """Start a deliverer without blocking this loop, on which the receivers run."""
    return await asyncio.to_thread(running.webhooks)


async def all_delivered(database: Database, seconds: float = SECONDS) -> None:
    async def done() -> bool:
        return set(await states(database)) == {"delivered"}

    await eventually(done, seconds)


async def heard(receiver: Receiver, count: int) -> None:
    async def got() -> bool:
        return len(receiver.got) >= count

    await eventually(got, SECONDS)


async def test_the_end_of_a_job_is_told_signed_and_measured(
    running: Pipeline, store: JobStore, database: Database
) -> None:
    async with receiving(200) as receiver:
        secret = await listen(database, receiver)
        deliverer = await start(running)
        async with consuming(store, database):
            ids = await end_jobs(store, 20)
            await until_consumed(store)
            await all_delivered(database)
        told = [got.verify(secret) for got in receiver.got]
        assert sorted(one["data"]["id"] for one in told) == sorted(ids)
        assert len(set(receiver.ids)) == 20
        samples = await scrape(deliverer)
        assert value(samples, "penstock_webhook_attempts_total", outcome="delivered") == 20
        assert value(samples, "penstock_webhooks_due") == 0
        assert value(samples, "penstock_database_up") == 1
        # Delivered without waiting for a poll, and Celery's queue is empty.
        assert await store.redis.llen(store.keys.webhooks) == 0
        deliverer.signal(signal.SIGTERM)
        assert await asyncio.to_thread(deliverer.wait, 30) == 0


async def test_killed_between_the_request_and_writing_it_down_it_is_delivered_again(
    running: Pipeline, database: Database
) -> None:
    async with receiving(200) as receiver:
        receiver.silent = True  # the request has arrived, its answer never comes
        secret = await listen(database, receiver)
        first = await start(running)
        await tell(database, 3)
        await heard(receiver, 3)
        first.signal(signal.SIGKILL)
        await asyncio.to_thread(first.wait)
        assert await states(database) == ["pending"] * 3
        receiver.silent = False
        await pass_time(database, 60)  # the killed process's claims expire
        await start(running)
        await all_delivered(database)
        for got in receiver.got:
            assert got.verify(secret)
    assert len(receiver.got) == 6
    assert len(set(receiver.ids)) == 3
    bodies = {(got.id, got.body) for got in receiver.got}
    assert len(bodies) == 3


@pytest.mark.settings(webhooks={"total_seconds": 3.0, "connect_seconds": 1.0})
async def test_sigterm_lets_what_is_under_way_end_and_leaves_the_rest_due(
    running: Pipeline, database: Database
) -> None:
    async with receiving(200) as receiver, receiving(200) as slow:
        slow.silent = True
        await listen(database, slow)
        deliverer = await start(running)
        await tell(database)
        await heard(slow, 1)
        deliverer.signal(signal.SIGTERM)
        assert await asyncio.to_thread(deliverer.wait, 40) == 0
        (row,) = await deliveries(database)
        assert (row.state, row.failure) == ("pending", "no response within 3 s")
        assert len(await attempts(database)) == 1
    assert not receiver.got


@pytest.mark.settings(
    webhooks={"concurrency": 16, "concurrency_per_host": 4, "concurrency_per_account": 8}
)
async def test_a_thousand_to_a_dead_host_do_not_delay_another_endpoint(
    running: Pipeline, store: JobStore, database: Database
) -> None:
    async with receiving(200) as dead, receiving(200) as alive:
        dead.silent = True
        await listen(database, dead)
        await listen(database, alive, "whe_2", account_id="other")
        await start(running)
        tickets = await tell(database, 1_000)
        await push_tickets(store.redis, store.keys, tickets)
        await heard(dead, 4)
        for number in range(5):
            mine = await tell(database, account="other")
            await push_tickets(store.redis, store.keys, mine)
            await heard(alive, number + 1)
            # None of the four hanging deliveries has timed out yet.
            assert len(dead.got) == 4
    assert len(alive.got) == 5


async def test_sql_that_is_away_delays_deliveries_and_loses_none(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    server = PostgresServer()
    server.start()
    try:
        own = DatabaseSettings(url=SecretStr(server.url()), timeout_seconds=1.0)
        await asyncio.to_thread(upgrade, own)
        settings = webhook_settings(redis_server, own)
        store, database = open_store(settings), Database(settings.database, "test")
        with pipeline(settings, tmp_path) as running:
            async with receiving(200) as receiver, consuming(store, database):
                await listen(database, receiver)
                deliverer = await start(running)
                await end_jobs(store, 3)
                await heard(receiver, 3)
                await asyncio.to_thread(server.stop, signal.SIGQUIT)
                ids = await end_jobs(store, 3)  # jobs end as ever

                async def noticed() -> bool:
                    return "webhooks_wait" in deliverer.output()

                await eventually(noticed, SECONDS)
                assert deliverer.running
                assert len(receiver.got) == 3
                await asyncio.to_thread(server.start)
                await heard(receiver, 6)
                await all_delivered(database)
                assert set(ids) <= {got.told["data"]["id"] for got in receiver.got}
                assert len(receiver.got) == 6
        await database.close()
        await store.close()
    finally:
        server.remove()


async def test_tickets_lost_with_redis_are_made_again(
    database_settings: DatabaseSettings, database: Database, tmp_path: Path
) -> None:
    server = RedisServer("valkey", tmp_path / "redis")
    server.start()
    try:
        settings = webhook_settings(server, database_settings)
        with pipeline(settings, tmp_path) as running:
            async with receiving(200) as receiver:
                await listen(database, receiver)
                deliverer = await start(running)
                await tell(database)
                await heard(receiver, 1)
                server.stop(signal.SIGKILL)
                await tell(database, 5)
                server.start()  # without persistence: all its data is gone
                await heard(receiver, 6)
                await all_delivered(database)
                assert deliverer.running
                assert len(receiver.got) == 6
    finally:
        server.stop()


@pytest.mark.settings(webhooks={"retry_seconds": "1,1,1,1,1,1"})
async def test_a_receiver_that_comes_back_gets_what_it_missed(
    running: Pipeline, database: Database
) -> None:
    async with receiving(503, 503, 200) as receiver:
        await listen(database, receiver)
        await start(running)
        await tell(database)
        await all_delivered(database)
    assert len(receiver.got) == 3
    assert len(set(receiver.ids)) == 1


async def test_messages_that_are_no_tickets_hold_up_nothing(
    running: Pipeline, store: JobStore, database: Database
) -> None:
    redis: Any = store.redis
    async with receiving(200) as receiver:
        await listen(database, receiver)
        deliverer = await start(running)
        await redis.lpush(store.keys.webhooks, b"\xff not json", b"{}", b"[1]")
        tickets = await tell(database)
        await push_tickets(store.redis, store.keys, tickets * 3)
        await all_delivered(database)
        assert deliverer.running
    assert len(receiver.got) == 1


async def test_a_receiver_that_hangs_blocks_no_job(
    running: Pipeline, store: JobStore, database: Database
) -> None:
    async with receiving(200) as receiver:
        receiver.silent = True
        await listen(database, receiver)
        await start(running)
        async with consuming(store, database):
            for _ in range(3):
                await end_jobs(store, 50)
                await until_consumed(store)
            await heard(receiver, 1)
    assert len(await deliveries(database)) == 150
