"""Rate limits and paused queues survive a killed Redis and a killed API process."""

import asyncio
import contextlib
import signal
from pathlib import Path

import pytest

from accounts.caller import NO_LIMITS, Limits
from accounts.quota import quota_of
from core.errors import RateLimited
from jobs.store.queue_control import ModeChange, QueueMode
from jobs.store.store_factory import open_store
from tests.conftest import settings_for
from tests.support.api_fleet import ApiFleet
from tests.support.http_client import request
from tests.support.invariants import check_jobs, check_nothing_left
from tests.support.jobs import QUEUE, submission
from tests.support.keys import make_key, sqlite_in
from tests.support.processes import pipeline
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

WAITING = 1_500
PURGE = f"/v1/admin/queues/{QUEUE}/purge"


async def test_a_killed_redis_forgets_neither_rates_nor_modes(own_server: RedisServer) -> None:
    store = open_store(settings_for(own_server))
    await store.redis.sadd(store.keys.queues, QUEUE)
    quota = quota_of("acme", "k", Limits(requests_per_minute=2), NO_LIMITS)
    for _ in range(2):
        await store.submit(submission(key_id="k", quota=quota))
    await store.control.change_mode(QUEUE, ModeChange.to(QueueMode.PAUSED), "test")
    await asyncio.to_thread(own_server.stop, signal.SIGKILL)
    await asyncio.to_thread(own_server.start)
    with pytest.raises(RateLimited):
        await store.submit(submission(key_id="k", quota=quota))
    assert (await store.control.mode(QUEUE)).mode is QueueMode.PAUSED
    assert await store.claim(QUEUE, "w", 2) == []
    await store.close()


async def test_a_purge_whose_process_is_killed_goes_on_when_it_is_repeated(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    settings = settings_for(redis_server, database=sqlite_in(tmp_path))
    key = await asyncio.to_thread(make_key, settings, "root", admin=True)
    store = open_store(settings)
    await store.redis.sadd(store.keys.queues, QUEUE)
    jobs = [submission() for _ in range(WAITING)]
    await asyncio.gather(*(store.submit(job) for job in jobs))
    with pipeline(settings, tmp_path) as running:
        first = await asyncio.to_thread(running.api)
        port = first.settings.api.port
        purging = asyncio.create_task(request(port, "POST", PURGE, key))

        async def waiting() -> int:
            return sum((await store.observe(QUEUE)).ready.values())

        async def begun() -> bool:
            return await waiting() < WAITING

        await eventually(begun)
        first.signal(signal.SIGKILL)
        with contextlib.suppress(OSError, EOFError):
            await purging
        assert first.wait() == -signal.SIGKILL
        await asyncio.to_thread(running.api)
        answer = await request(ApiFleet(running).port(), "POST", PURGE, key)
        assert (answer.status, answer.json["complete"], await waiting()) == (200, True, 0)
    await check_jobs(store, [job.id for job in jobs])
    await check_nothing_left(store, QUEUE)
    await store.close()
