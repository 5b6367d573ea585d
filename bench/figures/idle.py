"""Idle: CPU time of a ready worker that has no jobs."""

import asyncio
import time

import psutil

from bench.figure import Figure, rounded
from bench.servers.pipeline_servers import pipeline

SECONDS = 20.0
SETTLE_SECONDS = 5.0


async def measure() -> Figure:
    """Measure the share of one core that the worker and its children use."""
    async with pipeline() as servers:
        worker = psutil.Process(servers.processes["worker"].pid)
        await asyncio.sleep(SETTLE_SECONDS)
        shares = []
        for _ in range(3):
            before, began = _cpu_seconds(worker), time.perf_counter()
            await asyncio.sleep(SECONDS)
            spent = _cpu_seconds(worker) - before
            shares.append(100 * spent / (time.perf_counter() - began))
    return Figure(
        "idle",
        round(sorted(shares)[1], 3),
        "% of a core",
        must=1.0,
        aim=0.5,
        higher=False,
        compared_with="one core",
        details={"shares_percent": rounded(shares, 3), "seconds_each": SECONDS},
    )


def _cpu_seconds(process: psutil.Process) -> float:
    family = [process, *process.children(recursive=True)]
    times = [member.cpu_times() for member in family]
    return float(sum(t.user + t.system for t in times))
