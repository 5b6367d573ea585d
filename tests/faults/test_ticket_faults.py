"""Lost, doubled or invalid tickets, and the sweeper that repairs them."""

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.store.job_store import JobStore
from tests.support.following import follow_all
from tests.support.invariants import check_jobs, check_nothing_left, check_tickets_gone
from tests.support.processes import Pipeline, pipeline
from tests.support.redis_server import RedisServer
from tests.support.simulated import (
    MODEL,
    check_text,
    client,
    generation,
    simulated_settings,
    until_running,
)
from tests.support.waiting import eventually

JOBS = 400
GARBAGE = (b"\x00\xff\x7f", b"{}", b'{"body": 1}', b"[1,", b"null", b"", b'"x"')

Hurt = Callable[[Any, str], Awaitable[None]]


async def lose_all(redis: Any, queue: str) -> None:
    await redis.delete(queue)


async def double_all(redis: Any, queue: str) -> None:
    if tickets := await redis.lrange(queue, 0, -1):
        await redis.lpush(queue, *tickets)


async def add_garbage(redis: Any, queue: str) -> None:
    await redis.lpush(queue, *GARBAGE)
    await redis.rpush(queue, *GARBAGE)


@pytest.mark.parametrize("hurt", [lose_all, double_all, add_garbage])
async def test_whatever_becomes_of_tickets_each_job_runs_once(
    redis_server: RedisServer, tmp_path: Path, hurt: Hurt
) -> None:
    settings = simulated_settings(redis_server, slots=16)
    with pipeline(settings, tmp_path) as running:
        running.control()
        workers = [running.worker(), running.worker()]
        async with client(settings) as (store, hub):
            jobs = [generation(f"job {i}", tokens=30) for i in range(JOBS)]
            following = asyncio.create_task(submit_and_follow(store, hub, jobs))
            queue, times = store.keys.tickets(MODEL), 0

            async def hurt_five_times() -> bool:
                nonlocal times
                if await store.redis.llen(queue):
                    await hurt(store.redis, queue)
                    times += 1
                return times == 5

            await eventually(hurt_five_times, timeout=30)
            check_text(jobs, await following)
            await all_well(store, [job.id for job in jobs])
            records = [await store.get(job.id, "acme") for job in jobs]
            assert {record.fence for record in records} == {1}, "no job was claimed twice"
            if hurt is add_garbage:

                async def buried() -> bool:
                    return await store.redis.llen(store.keys.dead_tickets) == 5 * 2 * len(GARBAGE)

                await eventually(buried)
        assert all(worker.running for worker in workers)


async def submit_and_follow(store: JobStore, hub: Any, jobs: Any) -> Any:
    for job in jobs:
        await store.submit(job)
    return await follow_all(hub, jobs, 60)


async def all_well(store: JobStore, ids: list[str]) -> None:
    """Check the invariants, and that surplus tickets are taken and forgotten."""
    await check_jobs(store, ids)
    await check_nothing_left(store, MODEL)

    async def taken() -> bool:
        return await store.redis.llen(store.keys.tickets(MODEL)) == 0

    await eventually(taken, timeout=20)
    await check_tickets_gone(store, MODEL)


async def test_a_killed_control_process_is_replaced_by_the_one_that_waits(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    settings = simulated_settings(redis_server, slots=16)
    with pipeline(settings, tmp_path) as running:
        sweeping, waiting = running.control(), running.control()
        worker = running.worker()
        async with client(settings) as (store, hub):
            pid = await holder(store)
            victim = next(p for p in (sweeping, waiting) if p.pid == pid)
            jobs = [generation(f"job {i}", tokens=60) for i in range(300)]
            following = asyncio.create_task(submit_and_follow(store, hub, jobs))
            victim.signal(signal.SIGKILL)
            worker.signal(signal.SIGKILL)
            await asyncio.to_thread(running.worker)
            check_text(jobs, await following)
            assert await holder(store) != pid
            await all_well(store, [job.id for job in jobs])


async def test_a_frozen_control_process_that_wakes_up_does_no_harm(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    settings = simulated_settings(redis_server, slots=16)
    with pipeline(settings, tmp_path) as running:
        controls = [running.control(), running.control()]
        await asyncio.to_thread(running.worker)
        async with client(settings) as (store, hub):
            jobs = [generation(f"job {i}", tokens=60) for i in range(300)]
            following = asyncio.create_task(submit_and_follow(store, hub, jobs))
            for _ in range(3):
                pid = await holder(store)
                frozen = next(p for p in controls if p.pid == pid)
                frozen.signal(signal.SIGSTOP)

                async def another(before: int = pid) -> bool:
                    return await holder(store) != before

                await eventually(another, timeout=15)
                frozen.signal(signal.SIGCONT)
                await lose_all(store.redis, store.keys.tickets(MODEL))
            check_text(jobs, await following)
            await all_well(store, [job.id for job in jobs])
        assert all(process.running for process in controls)


async def holder(store: JobStore) -> int:
    """Return the process that sweeps."""

    async def held() -> bytes | None:
        redis: Any = store.redis
        name: bytes | None = await redis.get(store.keys.sweeper_lock)
        return name

    name = await eventually(held, timeout=20)
    assert name is not None
    return int(name.decode().rpartition("-")[2])


async def test_without_any_control_process_jobs_still_run(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    settings = simulated_settings(redis_server, slots=16)
    with pipeline(settings, tmp_path) as running:
        await asyncio.to_thread(running.worker)
        async with client(settings) as (store, hub):
            jobs = [generation(f"job {i}", tokens=30) for i in range(200)]
            check_text(jobs, await submit_and_follow(store, hub, jobs))
            await check_jobs(store, [job.id for job in jobs])
            await check_nothing_left(store, MODEL)


async def test_a_cold_shutdown_is_quiet(redis_server: RedisServer, tmp_path: Path) -> None:
    settings = simulated_settings(redis_server, slots=16)
    with pipeline(settings, tmp_path) as running:
        running.control()
        victim = await asyncio.to_thread(running.worker)
        async with client(settings) as (store, hub):
            jobs = [generation(f"job {i}", tokens=1000) for i in range(16)]
            following = asyncio.create_task(submit_and_follow(store, hub, jobs))
            await until_running(store, 16)
            victim.signal(signal.SIGQUIT)
            await asyncio.to_thread(victim.wait)
            assert "Traceback" not in victim.output()
            await asyncio.to_thread(Pipeline.worker, running)
            check_text(jobs, await following)
            await all_well(store, [job.id for job in jobs])
