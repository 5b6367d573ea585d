"""The Redis client's promises to its callers, on both event loops."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import uvloop
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError

from core.errors import StoreUnavailable
from core.runtime.child_process import free_port
from jobs.store.job_store import JobStore
from jobs.store.store_factory import open_store
from jobs.store.usage_outbox import Outbox
from tests.conftest import settings_for
from tests.support.jobs import QUEUE, complete, submission
from tests.support.redis_server import RedisServer

#: More turns of the loop than a read takes that opens its connection first.
TURNS = 40


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_read_that_is_cancelled_never_goes_on_whenever_the_cancellation_comes(
    redis_server: RedisServer, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def cancel_after_each_turn() -> tuple[list[int], list[Any]]:
        store = open_store(settings_for(redis_server))
        await store.redis.set("other", "answer")
        went_on, answers = [], []
        for turns in range(TURNS):
            reading = asyncio.create_task(store.read_log("nothing", 0))
            for _ in range(turns):
                await asyncio.sleep(0)
            cancelled = reading.cancel()
            await asyncio.wait([reading])
            if cancelled and not reading.cancelled():
                went_on.append(turns)
            answers.append(await store.redis.get("other"))
        await store.close()
        return went_on, answers

    with asyncio.Runner(loop_factory=loop) as runner:
        went_on, answers = runner.run(cancel_after_each_turn())
    assert went_on == []
    assert answers == [b"answer"] * TURNS, "each read gets its own answer"


async def test_a_script_that_cannot_run_says_why(redis_server: RedisServer) -> None:
    store = open_store(
        settings_for(redis_server, redis={"url": f"redis://127.0.0.1:{free_port()}"})
    )
    with pytest.raises(StoreUnavailable) as away:
        await store.purge()
    assert isinstance(away.value.__cause__, RedisConnectionError)
    await store.close()


async def test_at_maxmemory_every_script_but_submit_runs(
    store: JobStore, any_server: RedisServer
) -> None:
    """Scripts that free memory or finish accepted jobs must still run."""
    ended, running = [submission() for _ in range(2)]
    await store.submit(ended)
    await store.submit(running)
    redis: Any = store.redis
    await redis.config_set("maxmemory", "1")
    try:
        with pytest.raises(StoreUnavailable) as refused:
            await store.submit(submission())
        assert isinstance(refused.value.__cause__, OutOfMemoryError)
        assert await store.lock_sweeper("control", 3)
        for claimed in await store.claim(QUEUE, "w1", 2):
            assert await complete(store, claimed) == "finished"
        await store.sweep(QUEUE)
        outbox = Outbox(store.redis, store.keys, "ledger", "c1")
        entries = await outbox.read(10)
        assert len(entries) == 2
        assert await store.ended.archive("ledger", [entry.entry_id for entry in entries]) == 2
        await store.delete(ended.id, "acme")
        await store.purge()
    finally:
        await redis.config_set("maxmemory", "0")
