"""What whoever waits on Redis relies on, on both event loops."""

import asyncio
from collections.abc import Callable

import pytest
import uvloop

from jobs.open import open_store
from tests.conftest import settings_for
from tests.support.redis_server import RedisServer

#: More turns of the loop than a read takes with a connection that has to be opened first.
TURNS = 40


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_read_that_is_cancelled_never_goes_on_whenever_the_cancellation_comes(
    redis_server: RedisServer, loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def cancel_after_each_turn() -> tuple[list[int], list[bytes]]:
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
