"""Faults of the network between the processes and Redis, made by a proxy between them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import uvloop
from redis.exceptions import RedisError

from core.errors import StoreUnavailable
from core.settings.tree import Settings
from jobs.store.store_factory import open_store
from tests.support.following import run_jobs
from tests.support.invariants import check_jobs, check_nothing_left
from tests.support.processes import pipeline
from tests.support.proxy import Proxy
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


@pytest.fixture
def proxy(redis_server: RedisServer) -> Iterator[Proxy]:
    """A proxy in front of the shared Redis."""
    between = Proxy(redis_server.port)
    between.start()
    yield between
    between.stop()


def through(proxy: Proxy, settings: Settings) -> Settings:
    """Return the settings for processes behind the proxy."""
    redis = {**settings.redis.model_dump(exclude_unset=True), "url": proxy.url}
    values = {**settings.model_dump(exclude_unset=True), "redis": redis}
    return Settings(_env_file=None, **values)


def test_on_uvloop_too_a_reset_connection_is_a_store_that_is_away(
    redis_server: RedisServer, proxy: Proxy
) -> None:
    settings = through(proxy, simulated_settings(redis_server))

    async def submit_over_reset_connections() -> set[str]:
        store, closing = open_store(settings), True

        async def submit(number: int) -> set[str]:
            answers = set()
            while closing:
                try:
                    await store.submit(generation(f"job {number}"))
                    await store.queues()
                    answers.add("accepted")
                except StoreUnavailable:
                    answers.add("away")
            return answers

        submitting = [asyncio.create_task(submit(i)) for i in range(8)]
        for _ in range(100):
            await asyncio.to_thread(proxy.reset)
        closing = False
        async with asyncio.timeout(10):
            answers = await asyncio.gather(*submitting)

        async def accepted() -> bool:
            try:
                return bool(await store.submit(generation("after")))
            except StoreUnavailable:
                return False

        await eventually(accepted)
        await store.close()
        return set().union(*answers)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        answers = runner.run(submit_over_reset_connections())
    assert "away" in answers, "a reset hit a call"


async def test_a_subscription_that_carries_nothing_is_noticed_and_made_anew(
    redis_server: RedisServer, proxy: Proxy
) -> None:
    settings = through(proxy, simulated_settings(redis_server))
    async with client(settings) as (store, hub):
        channel = store.keys.events(hub.id)

        async def subscribed(times: int) -> bool:
            return (await store.redis.pubsub_numsub(channel))[0][1] == times

        await eventually(lambda: subscribed(1))
        await asyncio.to_thread(proxy.darken)

        async def again() -> bool:
            try:
                return await subscribed(2)  # Redis cannot know that the first is gone
            except (OSError, RedisError):
                return False

        await eventually(again, timeout=25)


Fault = Callable[[Proxy], Awaitable[None]]


async def reset(proxy: Proxy) -> None:
    await asyncio.to_thread(proxy.reset)


async def half_close(proxy: Proxy) -> None:
    await asyncio.to_thread(proxy.half_close)


async def darken(proxy: Proxy) -> None:
    """Open connections carry nothing any more; new ones work."""
    await asyncio.to_thread(proxy.darken)


async def black_hole(proxy: Proxy) -> None:
    """Nothing at all gets through for longer than a lease."""
    await asyncio.to_thread(proxy.black_hole, True)
    await asyncio.sleep(6)
    await asyncio.to_thread(proxy.black_hole, False)


async def refuse(proxy: Proxy) -> None:
    await asyncio.to_thread(proxy.refuse, True)
    await asyncio.sleep(2)
    await asyncio.to_thread(proxy.refuse, False)


async def delay(proxy: Proxy) -> None:
    """5 ms both ways, as between distant zones."""
    await asyncio.to_thread(proxy.delay, 0.005)


@pytest.mark.parametrize("fault", [reset, half_close, darken, black_hole, refuse, delay])
async def test_a_broken_network_costs_time_and_no_token(
    redis_server: RedisServer, proxy: Proxy, tmp_path: Path, fault: Fault
) -> None:
    settings = through(proxy, simulated_settings(redis_server, slots=32))
    with pipeline(settings, tmp_path) as running:
        control = running.control()
        workers = [running.worker(), running.worker()]
        async with client(settings) as (store, hub):
            jobs = [generation(f"job {i}", tokens=200) for i in range(JOBS)]
            following = await under_way(store, hub, jobs, running=33)
            await fault(proxy)
            check_text(jobs, await following)
            await check_jobs(store, [job.id for job in jobs])
            await check_nothing_left(store, MODEL)
            again = [generation(f"after {i}") for i in range(50)]
            check_text(again, await run_jobs(store, hub, again, timeout=30))
        assert all(process.running for process in [control, *workers])


async def test_connections_that_carry_nothing_cost_no_lease(
    redis_server: RedisServer, proxy: Proxy, tmp_path: Path
) -> None:
    direct = simulated_settings(redis_server, slots=32, step_seconds=0.01)
    with pipeline(direct, tmp_path) as running:
        running.control()
        running.settings = through(proxy, direct)
        await asyncio.to_thread(running.worker)
        async with client(direct) as (store, hub):
            jobs = [generation(f"job {i}", tokens=1000) for i in range(32)]
            following = await under_way(store, hub, jobs, running=32, seconds=60)
            await darken(proxy)
            check_text(jobs, await following)
            await check_jobs(store, [job.id for job in jobs])
            records = [await store.get(job.id, "acme") for job in jobs]
            assert {record.fence for record in records} == {1}, "a lease ran out"
