"""A worker that crashes in native code logs the signal, the stack and what it was doing."""

import asyncio
import signal
from pathlib import Path

import pytest

from tests.support.processes import pipeline
from tests.support.redis_server import RedisServer
from tests.support.simulated import simulated_settings
from tests.support.waiting import eventually

NAMES = {
    signal.SIGILL: "Illegal instruction",
    signal.SIGSEGV: "Segmentation fault",
    signal.SIGBUS: "Bus error",
}


@pytest.mark.parametrize("number", NAMES)
async def test_a_native_crash_leaves_the_stacks_and_the_last_phase(
    redis_server: RedisServer, tmp_path: Path, number: signal.Signals
) -> None:
    settings = simulated_settings(redis_server)
    with pipeline(settings, tmp_path) as running:
        worker = running.begin_worker(simulated={"start_seconds": 300.0})

        async def loading() -> bool:
            return "engine_loading" in worker.output()

        await eventually(loading)
        worker.signal(number)
        code = await asyncio.to_thread(worker.wait)
        log = worker.output()

    assert code == -number
    assert f"Fatal Python error: {NAMES[number]}" in log
    assert log.count("most recent call first") >= 2, "the stack of each thread"
    before, _, _ = log.partition("Fatal Python error")
    assert "loading" in [line for line in before.splitlines() if "phase" in line][-1]
