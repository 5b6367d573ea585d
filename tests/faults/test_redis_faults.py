"""Redis restarts, disappears or refuses writes: streams resume, nothing is lost or repeated."""

import asyncio
import signal
from pathlib import Path

import pytest

from core.db.database import Database
from core.errors import StoreUnavailable
from core.settings.billing import DatabaseSettings
from jobs.model_registry import ModelRegistry
from jobs.status import Status
from jobs.store.store_factory import open_store
from tests.support.following import follow_all, run_jobs
from tests.support.invariants import check_jobs, check_nothing_left
from tests.support.ledger import archived, until_consumed, usage_of
from tests.support.processes import pipeline
from tests.support.redis_server import RedisServer
from tests.support.simulated import (
    MODEL,
    check_text,
    client,
    generation,
    simulated_settings,
    under_way,
)
from tests.support.waiting import eventually


async def test_jobs_stream_through_a_redis_restart(own_server: RedisServer, tmp_path: Path) -> None:
    settings = simulated_settings(own_server, slots=32)
    with pipeline(settings, tmp_path) as running:
        running.control()
        running.worker()
        running.worker()
        async with client(settings) as (store, hub):
            jobs = [generation(f"job {i}", tokens=300) for i in range(200)]
            following = await under_way(store, hub, jobs, running=33)
            await asyncio.to_thread(own_server.stop, signal.SIGKILL)
            await asyncio.to_thread(own_server.start)
            check_text(jobs, await following)
            await check_jobs(store, [job.id for job in jobs])
            await check_nothing_left(store, MODEL)


async def test_an_idle_worker_is_not_deaf_after_a_redis_restart(
    own_server: RedisServer, tmp_path: Path
) -> None:
    settings = simulated_settings(own_server)
    with pipeline(settings, tmp_path) as running:
        running.control()
        worker = running.worker()
        async with client(settings) as (store, hub):
            for round_number in range(3):
                await asyncio.to_thread(own_server.stop, signal.SIGKILL)
                await asyncio.to_thread(own_server.start)

                async def answers() -> bool:
                    try:
                        return bool(await store.queues())
                    except StoreUnavailable:
                        return False

                await eventually(answers)
                jobs = [generation(f"round {round_number} job {i}") for i in range(5)]
                check_text(jobs, await run_jobs(store, hub, jobs, timeout=30))
            assert worker.running


async def test_a_redis_that_lost_everything_hears_of_the_models_again(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    settings = simulated_settings(redis_server)
    with pipeline(settings, tmp_path) as running:
        running.control()
        await asyncio.to_thread(running.worker)
        async with client(settings) as (store, hub):
            registry = ModelRegistry(store.redis, store.keys)
            before = await registry.list_models()
            found = [key async for key in store.redis.scan_iter(f"{settings.redis.prefix}:*")]
            await store.redis.delete(*found)

            async def known() -> bool:
                return await registry.list_models() == before

            await eventually(known)
            jobs = [generation("after")]
            check_text(jobs, await run_jobs(store, hub, jobs, timeout=30))


async def test_while_redis_is_away_a_submit_is_refused_with_a_time(
    own_server: RedisServer,
) -> None:
    settings = simulated_settings(own_server)
    store = open_store(settings)
    await store.submit(generation("before"))
    own_server.stop(signal.SIGKILL)
    with pytest.raises(StoreUnavailable) as refused:
        await store.submit(generation("meanwhile"))
    assert refused.value.retry_after_seconds > 0
    own_server.start()

    async def accepts() -> bool:
        try:
            await store.submit(generation("after"))
        except StoreUnavailable:
            return False
        return True

    await eventually(accepts)
    assert await store.redis.zcard(store.keys.queued(MODEL)) == 2
    await store.close()


async def test_at_maxmemory_new_jobs_are_refused_and_old_ones_run_end_and_are_billed(
    own_server: RedisServer, database: Database, database_settings: DatabaseSettings, tmp_path: Path
) -> None:
    """Accepted jobs finish and are billed while the memory limit stays."""
    settings = simulated_settings(
        own_server,
        database=database_settings.model_dump(),
        retention={"start": "archive", "seconds": 1},
    )
    with pipeline(settings, tmp_path) as running:
        control = running.control()
        worker = running.worker()
        async with client(settings) as (store, hub):
            jobs = [generation(f"job {i}", tokens=400) for i in range(16)]
            for job in jobs:
                await store.submit(job)

            async def begun() -> bool:
                records = [await store.get(job.id, "acme") for job in jobs]
                return all(record.status is Status.IN_PROGRESS for record in records)

            await eventually(begun)
            following = asyncio.create_task(follow_all(hub, jobs, 90))
            await store.redis.config_set("maxmemory", "1mb")
            with pytest.raises(StoreUnavailable):
                await store.submit(generation("too much"))
            assert not following.done()
            check_text(jobs, await following)
            await check_jobs(store, [job.id for job in jobs])
            await check_nothing_left(store, MODEL)
            running.ledger()  # its consumer group is missing and there is no memory for a new one
            await until_consumed(store, 60)
            assert set(await usage_of(database)) == {job.id for job in jobs}
            assert len(await archived(database)) == len(jobs)

            async def freed() -> bool:
                return not await store.redis.exists(*(store.keys.log(job.id) for job in jobs))

            await eventually(freed)
        assert "sweep_failed" not in control.output()
        assert "heartbeat_failed" not in worker.output()
