"""The metric of the event loop's lag."""

import asyncio
import time

from core.metrics import API
from core.runtime.event_loop_lag import measure_event_loop_lag
from tests.support.waiting import eventually

LATE = "penstock_event_loop_lag_seconds_sum"
BLOCKED_SECONDS = 0.3


async def test_whatever_blocks_the_loop_is_seen() -> None:
    before = API.get_sample_value(LATE) or 0.0
    watching = asyncio.create_task(measure_event_loop_lag())
    await asyncio.sleep(0)  # it has begun to wait
    time.sleep(BLOCKED_SECONDS)  # noqa: ASYNC251 - blocks the loop on purpose

    async def seen() -> bool:
        return (API.get_sample_value(LATE) or 0.0) - before > BLOCKED_SECONDS / 2

    await eventually(seen)
    watching.cancel()
