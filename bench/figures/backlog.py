"""Backlog: the cost of submit and claim with 100,000 jobs queued, against 1,000 queued."""

import asyncio
import tempfile
import time
from pathlib import Path

from bench.figure import Figure, rounded
from bench.loads.submissions import CONCURRENCY, submission
from bench.servers.pipeline_servers import bench_settings, redis_server
from jobs.store.job_store import JobStore
from jobs.store.store_factory import open_store

SHORT = 1_000
LONG = 100_000
BATCH = 2_000
CLAIM = 32
ROUNDS = 7


async def measure() -> Figure:
    """Measure microseconds per submit and claim in a long and a short queue, interleaved."""
    with tempfile.TemporaryDirectory() as name, redis_server(Path(name)) as url:
        groups = {"queue": {"max_queued": 10**7, "max_queued_per_account": 10**7}}
        store = open_store(bench_settings(url, Path(name), **groups))
        await _submit(store, "short", SHORT)
        await _submit(store, "long", LONG)
        times: dict[str, list[float]] = {"short": [], "long": []}
        for number in range(ROUNDS + 1):
            for queue in ("short", "long") if number % 2 else ("long", "short"):
                seconds = await _submit(store, queue, BATCH) + await _claim(store, queue, BATCH)
                if number:  # the first round warms up
                    times[queue].append(seconds / BATCH * 1e6)
        assert await store.redis.zcard(store.keys.queued("long")) >= LONG
        await store.close()
    pairs = sorted(a / b for a, b in zip(times["long"], times["short"], strict=True))
    return Figure(
        "backlog",
        round(pairs[len(pairs) // 2], 3),
        "x",
        must=1.2,
        aim=1.05,
        higher=False,
        compared_with=f"the same with {SHORT} jobs queued instead of {LONG}",
        details={f"{queue}_us_per_job": rounded(values) for queue, values in times.items()},
    )


async def _submit(store: JobStore, queue: str, jobs: int) -> float:
    left = iter(range(jobs))

    async def client() -> None:
        for _ in left:
            await store.submit(submission(queue))

    began = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CONCURRENCY)))
    return time.perf_counter() - began


async def _claim(store: JobStore, queue: str, jobs: int) -> float:
    began = time.perf_counter()
    claimed = 0
    while claimed < jobs:
        claimed += len(await store.claim(queue, "bench", min(CLAIM, jobs - claimed)))
    return time.perf_counter() - began
