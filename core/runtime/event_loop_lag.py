"""Measures the lag of the event loop: how late a timer of this process fires."""

import asyncio
from time import perf_counter

from core import metrics

INTERVAL_SECONDS = 0.1


async def measure_event_loop_lag() -> None:
    """Record the lag of a timer that fires every `INTERVAL_SECONDS`, until cancelled."""
    while True:
        began = perf_counter()
        await asyncio.sleep(INTERVAL_SECONDS)
        metrics.loop_lag.observe(max(0.0, perf_counter() - began - INTERVAL_SECONDS))
