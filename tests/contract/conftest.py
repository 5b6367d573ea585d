"""Engines, each started once and shared by the whole session on the session's event loop."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio
import uvloop

from core.settings.engine import EngineSettings, SimulatedSettings
from tests.contract.driver import Driver
from workers.engine_factory import create_engine

SLOTS = 8
FAST = SimulatedSettings(step_base_seconds=0.0005, step_per_sequence_seconds=0, faults=True)
SETTINGS = {
    "simulated": EngineSettings(kind="simulated", slots=SLOTS, max_model_len=2048, simulated=FAST),
    "in-process": EngineSettings(
        slots=SLOTS,
        max_model_len=2048,
        chat_template=Path(__file__).with_name("chat_template.jinja"),
        render_seconds=1.0,
        render_inline_characters=200,
    ),
    "separate": EngineSettings(
        slots=SLOTS, max_model_len=2048, core="separate", tool_parser="none"
    ),
    "embedding": EngineSettings(slots=SLOTS, max_model_len=2048, core="separate", task="embed"),
    "simulated embedding": EngineSettings(
        kind="simulated", slots=SLOTS, task="embed", simulated=FAST
    ),
}
SEPARATE = pytest.param("separate", marks=pytest.mark.slow)


class Engines:
    """Starts engines when first asked for and keeps them."""

    def __init__(self) -> None:
        self._drivers: dict[str, Driver] = {}

    async def get(self, name: str) -> Driver:
        """Return a running engine."""
        if name not in self._drivers:
            driver = Driver(name, create_engine(SETTINGS[name]))
            await driver.start()
            self._drivers[name] = driver
        return self._drivers[name]

    async def close(self) -> None:
        """Stop all engines."""
        for driver in self._drivers.values():
            await driver.engine.close()


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run engines on the event loop of the worker, which lacks some of asyncio's options."""
    return {"uvloop": uvloop.new_event_loop}


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engines() -> AsyncIterator[Engines]:
    """All engines of the session."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    engines = Engines()
    yield engines
    await engines.close()


@pytest_asyncio.fixture(loop_scope="session", params=["simulated", "in-process", SEPARATE])
async def driver(request: pytest.FixtureRequest, engines: Engines) -> AsyncIterator[Driver]:
    """Each engine in turn; a test must leave no job running in it."""
    driver = await engines.get(request.param)
    yield driver
    load = await driver.idle()
    assert (load.running, load.waiting) == (0, 0)


@pytest_asyncio.fixture(loop_scope="session")
async def vllm(engines: Engines) -> Driver:
    """The in-process vLLM engine."""
    return await engines.get("in-process")
