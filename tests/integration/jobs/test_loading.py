"""Workers that load their model count for the autoscaler; dead ones and hopeless ones do not."""

import pytest

from jobs.store import worker_transitions
from tests.conftest import settings_for
from tests.support.redis_server import RedisServer
from tests.support.simulated import client
from tests.support.waiting import eventually

QUEUE = "a-model"


async def test_a_worker_that_loads_counts_until_it_is_loaded(redis_server: RedisServer) -> None:
    async with client(settings_for(redis_server)) as (store, _):
        assert await store.loading(QUEUE, "w1", "host-1")
        assert await store.loading(QUEUE, "w1", "host-1")
        assert await store.loading(QUEUE, "w2", "host-2")
        assert (await store.observe(QUEUE)).loading == 2
        await store.end_loading(QUEUE, "w1", "host-1", loaded=True)
        assert (await store.observe(QUEUE)).loading == 1
        assert not await store.redis.exists(store.keys.load_began(QUEUE, "host-1"))


async def test_a_worker_that_died_while_it_loaded_is_forgotten(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also while others load, and without a control process."""
    async with client(settings_for(redis_server)) as (store, _):
        await store.loading(QUEUE, "lives", "host-1")
        monkeypatch.setattr(worker_transitions, "LOADING_EXPIRE_MS", 200)
        await store.loading(QUEUE, "died", "host-2")

        async def only_one_is_left() -> bool:
            await store.loading(QUEUE, "lives", "host-1")
            return await store.redis.zrange(store.keys.loading(QUEUE), 0, -1) == [b"lives"]

        await eventually(only_one_is_left)

        async def none_is_left() -> bool:
            return await store.redis.zcard(store.keys.loading(QUEUE)) == 0

        await eventually(none_is_left)


async def test_a_host_whose_loads_fail_again_and_again_counts_for_a_limited_time(
    redis_server: RedisServer,
) -> None:
    settings = settings_for(redis_server, worker={"load_seconds": 0.3})
    async with client(settings) as (store, _):
        assert await store.loading(QUEUE, "try-1", "host")
        await store.end_loading(QUEUE, "try-1", "host", loaded=False)

        async def counts_no_more() -> bool:
            return not await store.loading(QUEUE, "try-2", "host")

        await eventually(counts_no_more)
        assert await store.redis.zcard(store.keys.loading(QUEUE)) == 0
        assert await store.loading(QUEUE, "other", "another-host"), "it has its own time"
        await store.end_loading(QUEUE, "try-2", "host", loaded=True)
        assert await store.loading(QUEUE, "try-3", "host"), "a success begins anew"
