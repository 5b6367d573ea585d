"""Redis forgets its scripts, turns read-only, or is out of memory or disk: no job is lost."""

import asyncio
import resource
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from core.errors import StoreUnavailable
from jobs.store.job_store import JobStore
from jobs.store.store_factory import open_store
from tests.support.following import follow_all, run_jobs
from tests.support.invariants import check_jobs, check_nothing_left
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

JOBS = 300

Change = Callable[[Any, RedisServer], Awaitable[None]]


async def test_calls_survive_a_server_that_keeps_forgetting_its_scripts(
    redis_server: RedisServer,
) -> None:
    store = open_store(simulated_settings(redis_server))
    forgetting = True

    async def forget() -> None:
        while forgetting:
            await store.redis.script_flush()

    async def call(number: int) -> None:
        for turn in range(30):
            await store.submit(generation(f"{number} {turn}"))
            await store.sweep(MODEL)
            await store.claim(MODEL, "w", 1)

    forgetter = asyncio.create_task(forget())
    async with asyncio.timeout(30):
        answers = await asyncio.gather(*(call(i) for i in range(8)), return_exceptions=True)
    forgetting = False
    await forgetter
    strange = [a for a in answers if a is not None and not isinstance(a, StoreUnavailable)]
    assert not strange
    await store.close()


async def become_a_replica(redis: Any, server: RedisServer) -> None:
    """Make Redis a replica of an unreachable primary, as after a failover."""
    await redis.execute_command("REPLICAOF", "127.0.0.1", "1")


async def become_primary(redis: Any, server: RedisServer) -> None:
    await redis.execute_command("REPLICAOF", "NO", "ONE")


async def run_out_of_memory(redis: Any, server: RedisServer) -> None:
    await redis.config_set("maxmemory", "1mb")


async def have_memory(redis: Any, server: RedisServer) -> None:
    await redis.config_set("maxmemory", "0")


async def fill_the_disk(redis: Any, server: RedisServer) -> None:
    await redis.config_set("appendfsync", "everysec")  # with `always` Redis ends itself
    server.limit_files(1)


async def free_the_disk(redis: Any, server: RedisServer) -> None:
    server.limit_files(resource.RLIM_INFINITY)


@pytest.mark.parametrize("own_server", ["redis"], indirect=True)
@pytest.mark.parametrize(
    ("begin", "end"),
    [
        (become_a_replica, become_primary),
        (fill_the_disk, free_the_disk),
    ],
)
async def test_a_store_that_refuses_writes_costs_time_and_no_job(
    own_server: RedisServer, tmp_path: Path, begin: Change, end: Change
) -> None:
    settings = simulated_settings(own_server, slots=16)
    with pipeline(settings, tmp_path) as running:
        control = running.control()
        workers = [running.worker(), running.worker()]
        async with client(settings) as (store, hub):
            jobs = [generation(f"job {i}", tokens=120) for i in range(JOBS)]
            following = await under_way(store, hub, jobs, running=17)
            await begin(store.redis, own_server)
            await eventually(lambda: refuses(store))
            for worker in workers:

                async def noticed(said: Callable[[], str] = worker.output) -> bool:
                    return "append_failed_store_unavailable" in said()

                await eventually(noticed)
            assert not following.done()
            await end(store.redis, own_server)
            check_text(jobs, await following)
            await check_jobs(store, [job.id for job in jobs])
            await check_nothing_left(store, MODEL)
            more = [generation(f"after {i}") for i in range(50)]
            check_text(more, await run_jobs(store, hub, more, timeout=30))
        assert all(process.running for process in [control, *workers])


@pytest.mark.parametrize("own_server", ["valkey"], indirect=True)
@pytest.mark.parametrize(
    ("begin", "end", "said"),
    [
        (become_a_replica, become_primary, "heartbeat_failed_store_unavailable"),
        # What was claimed goes on; only kombu's own commands are refused.
        (run_out_of_memory, have_memory, "Trying to reconnect"),
        (fill_the_disk, free_the_disk, "heartbeat_failed_store_unavailable"),
    ],
)
async def test_a_worker_outlives_a_store_that_refuses_its_tickets(
    own_server: RedisServer, tmp_path: Path, begin: Change, end: Change, said: str
) -> None:
    settings = simulated_settings(own_server, slots=16)
    with pipeline(settings, tmp_path) as running:
        running.control()
        worker = running.worker()
        async with client(settings) as (store, hub):
            jobs = [generation(f"job {i}", tokens=4) for i in range(JOBS)]
            submitting = [asyncio.create_task(submit(store, job)) for job in jobs]
            await asyncio.gather(*submitting[:50])
            await begin(store.redis, own_server)
            await eventually(lambda: refuses(store))

            async def refused_twice() -> bool:
                return worker.output().count(said) >= 2

            await eventually(refused_twice, timeout=20)
            await end(store.redis, own_server)
            async with asyncio.timeout(30):
                await asyncio.gather(*submitting)
            check_text(jobs, await follow_all(hub, jobs, 60))
            await check_jobs(store, [job.id for job in jobs])
            await check_nothing_left(store, MODEL)
        assert worker.running, worker.output()[-3000:]


async def submit(store: JobStore, job: Any) -> None:
    """Submit as a client that comes back."""
    while True:
        try:
            await store.submit(job)
        except StoreUnavailable as refused:
            await asyncio.sleep(min(0.2, refused.retry_after_seconds))
        else:
            return


async def refuses(store: JobStore) -> bool:
    """Whether a submit is refused with a time to come back."""
    try:
        await store.submit(generation("refused?", tokens=1))
    except StoreUnavailable:
        return True
    return False
