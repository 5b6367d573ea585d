"""How long clients of a killed, frozen or drained worker wait: the figures of docs/reliability.md.

`pytest -s tests/faults/test_recovery_times.py` prints them.
"""

import asyncio
import signal
from pathlib import Path
from statistics import median

import pytest

from jobs.store.transitions import Submission
from jobs.stream.event_hub import EventHub
from tests.support.invariants import check_jobs, check_nothing_left
from tests.support.processes import pipeline
from tests.support.redis_server import RedisServer
from tests.support.simulated import MODEL, client, generation, simulated_settings
from tests.support.waiting import eventually

JOBS = 32
#: Signal -> longest median and longest worst silence allowed, in seconds.
LIMITS = {signal.SIGKILL: (5.0, 10.0), signal.SIGSTOP: (5.0, 10.0), signal.SIGTERM: (4.0, 5.0)}


@pytest.mark.parametrize("number", LIMITS)
async def test_a_lost_workers_clients_wait_seconds(
    redis_server: RedisServer, tmp_path: Path, number: signal.Signals
) -> None:
    settings = simulated_settings(redis_server, slots=JOBS, step_seconds=0.02)
    with pipeline(settings, tmp_path) as running:
        running.control()
        victim = await asyncio.to_thread(running.worker)
        async with client(settings) as (store, hub):
            jobs = [generation(f"job {i}", tokens=500) for i in range(JOBS)]
            for job in jobs:
                await store.submit(job)
            following = [asyncio.create_task(longest_silence(hub, job)) for job in jobs]

            async def in_mid_stream() -> bool:
                records = [await store.get(job.id, "acme") for job in jobs]
                return all(record.output_tokens > 0 for record in records)

            await eventually(in_mid_stream)
            await asyncio.to_thread(running.worker)
            victim.signal(number)
            async with asyncio.timeout(60):
                silences = await asyncio.gather(*following)
            usual, worst = LIMITS[number]
            print(f"\n{number.name}: median {median(silences):.2f} s, worst {max(silences):.2f} s")  # noqa: T201
            assert median(silences) <= usual
            assert max(silences) <= worst
            await check_jobs(store, [job.id for job in jobs])
            await check_nothing_left(store, MODEL)
            records = [await store.get(job.id, "acme") for job in jobs]
            assert {record.fence for record in records} == {2}, "each was taken over once"


async def longest_silence(hub: EventHub, job: Submission) -> float:
    """Follow a job to its end; returns the longest time without an event."""
    loop = asyncio.get_running_loop()
    last, longest = 0.0, 0.0
    async for batch in hub.follow(job.id, job.account, 0):
        if batch:
            now = loop.time()
            longest, last = max(longest, now - last if last else 0.0), now
    return longest
