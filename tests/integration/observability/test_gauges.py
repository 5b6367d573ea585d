"""Gauges from Redis and SQL: exact when the server answers, absent when it does not."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample
from pydantic import SecretStr

from billing.budgets.budgets import Budget
from billing.pricing.gpu_rates import GpuRate, set_gpu_rate
from billing.process.metrics_collector import MoneyCollector
from core.db.database import Database
from core.errors import EngineError
from core.settings.billing import DatabaseSettings
from jobs.fairness import ServiceTier
from jobs.store.job_store import JobStore
from jobs.store.metrics_collector import StoreCollector
from jobs.store.queue_control import ModeChange, QueueMode
from jobs.store.store_factory import open_store
from tests.conftest import settings_for
from tests.support.budgets import give_budget
from tests.support.jobs import QUEUE, complete, submission
from tests.support.ledger import a_price, consuming, end_jobs, until_consumed
from tests.support.redis_server import RedisServer
from tests.support.scraping import value


async def samples(collector: Collector) -> list[Sample]:
    """Collect as a scrape does, on another thread."""

    def collect() -> list[Sample]:
        return [sample for family in collector.collect() for sample in family.samples]

    return await asyncio.to_thread(collect)


async def shown(store: JobStore) -> list[Sample]:
    return await samples(StoreCollector(store, asyncio.get_running_loop()))


async def test_jobs_are_counted_where_they_are(store: JobStore) -> None:
    for tier in (ServiceTier.PRIORITY, ServiceTier.FLEX, ServiceTier.FLEX):
        await store.submit(submission(tier=tier))
    for _ in range(3):
        await store.submit(submission("capped", max_running=1))
    await store.renew(QUEUE, "w1", 8, b"{}", [])
    (first,) = await store.claim(QUEUE, "w1", 1)
    await store.requeue(first.id, first.fence, EngineError("again"), delay_seconds=60)
    running = await store.claim(QUEUE, "w1", 3)
    assert len(running) == 3

    found = await shown(store)

    def jobs(state: str) -> float | None:
        return value(found, "penstock_queue_jobs", model=QUEUE, state=state)

    assert (jobs("delayed"), jobs("running"), jobs("parked"), jobs("ready")) == (1, 3, 2, 0)
    assert value(found, "penstock_workers", model=QUEUE) == 1
    assert value(found, "penstock_slots", model=QUEUE) == 8
    assert value(found, "penstock_redis_up") == 1


@pytest.mark.parametrize("mode", list(QueueMode))
async def test_the_mode_of_a_queue_is_shown(store: JobStore, mode: QueueMode) -> None:
    await store.renew(QUEUE, "w1", 8, b"{}", [])
    await store.redis.sadd(store.keys.queues, QUEUE)
    await store.control.change_mode(QUEUE, ModeChange.to(mode), "test")
    found = await shown(store)
    for other in QueueMode:
        shows = value(found, "penstock_queue_mode", model=QUEUE, mode=other)
        assert shows == float(other is mode)


async def test_the_oldest_job_is_found_behind_newer_ones_of_other_accounts(
    store: JobStore,
) -> None:
    await store.renew(QUEUE, "w1", 8, b"{}", [])
    assert value(await shown(store), "penstock_queue_oldest_seconds", model=QUEUE) == 0
    big = submission("big", tokens=4_000)
    await store.submit(big)
    await store.redis.hincrby(store.keys.job(big.id), "queued", -60_000)
    for number in range(20):
        await store.submit(submission(f"small{number}"))
    oldest = value(await shown(store), "penstock_queue_oldest_seconds", model=QUEUE)
    assert oldest is not None
    assert 60 <= oldest < 120


async def test_ends_dead_letters_and_the_outbox_are_shown(store: JobStore) -> None:
    await store.submit(submission())
    (job,) = await store.claim(QUEUE, "w1", 1)
    await complete(store, job)
    found = await shown(store)
    assert value(found, "penstock_jobs_finished_total", status="completed") == 1
    assert value(found, "penstock_jobs_finished_total", status="failed") == 0
    assert value(found, "penstock_outbox_entries") == 1
    assert value(found, "penstock_dead_letter_jobs") == 0
    age = value(found, "penstock_outbox_age_seconds")
    assert age is not None
    assert 0 <= age < 60


async def test_without_redis_only_its_absence_is_shown(own_redis: RedisServer) -> None:
    settings = settings_for(own_redis)
    settings = settings.model_copy(
        update={"redis": settings.redis.model_copy(update={"timeout_seconds": 0.5})}
    )
    store = open_store(settings)
    await store.renew(QUEUE, "w1", 8, b"{}", [])
    assert value(await shown(store), "penstock_workers") == 1
    own_redis.stop()
    assert [(s.name, s.value) for s in await shown(store)] == [("penstock_redis_up", 0)]
    own_redis.start()
    assert value(await shown(store), "penstock_redis_up") == 1
    await store.close()


# --- money ----------------------------------------------------------------------------


async def money(database: Database) -> list[Sample]:
    return await samples(MoneyCollector(database, asyncio.get_running_loop()))


async def test_the_rate_in_force_and_budgets_by_state_are_shown(
    store: JobStore, database: Database
) -> None:
    rate = GpuRate(QUEUE, "H200", Decimal(3), 8, "USD", datetime.now(UTC) - timedelta(days=2))
    await set_gpu_rate(database, rate)
    later = replace(rate, per_hour=Decimal("2.5"), valid_from=rate.valid_from + timedelta(days=1))
    await set_gpu_rate(database, later)
    await set_gpu_rate(
        database, replace(rate, per_hour=Decimal(9), valid_from=datetime.now(UTC) + timedelta(1))
    )
    await a_price(database, output=Decimal(1_000_000))  # one per token
    for account, amount in (("poor", 2), ("rich", 1_000)):
        await give_budget(database, Budget(account, Decimal(amount)))
    async with consuming(store, database):
        await end_jobs(store, 2, account="poor")
        await until_consumed(store)

    found = await money(database)

    assert value(found, "penstock_worker_hour_cost", model=QUEUE, currency="USD") == 2.5
    states = {s.labels["state"]: s.value for s in found if s.name == "penstock_budgets"}
    assert states == {"fine": 1, "near": 0, "used_up": 1}


async def test_without_sql_only_its_absence_is_shown(tmp_path: Path) -> None:
    url = SecretStr(f"sqlite+aiosqlite:///{tmp_path}/nowhere/penstock.db")
    database = Database(DatabaseSettings(url=url), "test")
    assert [(s.name, s.value) for s in await money(database)] == [("penstock_database_up", 0)]
    await database.close()
