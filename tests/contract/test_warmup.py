"""The warm-up on real engines: every part runs, and the sink receives none of its output."""

import asyncio
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.contract.conftest import SEPARATE, Engines
from tests.contract.driver import WAIT_SECONDS, Driver, completion
from workers.engines.vllm.engine import VllmEngine
from workers.engines.vllm.warmup import WarmUp

pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::FutureWarning:vllm.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:xgrammar.*"),
]


async def warm(driver: Driver) -> dict[str, Any]:
    """Warm a running engine once more; return the figures it logs."""
    engine = driver.engine
    assert isinstance(engine, VllmEngine)
    assert engine._thread is not None
    tokens = engine._thread.front.sample_tokens
    with capture_logs() as logs:
        async with asyncio.timeout(WAIT_SECONDS):
            await WarmUp(engine._run_own, driver.info, tokens).run()
    (figures,) = [entry for entry in logs if entry["event"] == "engine_warm"]
    return dict(figures)


@pytest.mark.parametrize("name", ["in-process", SEPARATE])
async def test_a_model_of_text_runs_every_part(name: str, engines: Engines) -> None:
    driver = await engines.get(name)
    steps = len(driver.steps)
    figures = await warm(driver)

    assert len(driver.steps) == steps
    assert figures["refused"] == []
    assert len(figures["parts"]) == 9
    assert figures["threads"] == driver.info.threads >= 1
    assert figures["tokens"] > 300
    load = await driver.idle()
    assert (load.running, load.waiting, load.kv_usage) == (0, 0, 0)
    assert (await driver.run(completion("A river is"))).text


@pytest.mark.slow
async def test_a_model_that_embeds_runs_every_part(engines: Engines) -> None:
    driver = await engines.get("embedding")
    steps = len(driver.steps)
    figures = await warm(driver)

    assert len(driver.steps) == steps
    assert figures["refused"] == []
    assert list(figures["parts"]) == ["long inputs", "inputs of several lengths", "cancel"]
    load = await driver.idle()
    assert (load.running, load.waiting) == (0, 0)


async def test_an_engine_says_which_kernel_and_extension_it_runs(engines: Engines) -> None:
    info = (await engines.get("in-process")).info

    assert info.kernel
    assert info.extension
