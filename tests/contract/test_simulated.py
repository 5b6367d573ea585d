"""Promises of the simulated engine only: scripted text, scripted faults, its clock."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from core.errors import EngineDead, EngineError
from core.settings.engine import EngineSettings, SimulatedSettings
from tests.contract.conftest import FAST
from tests.contract.driver import WAIT_SECONDS, Driver, chat, completion
from workers.engine_factory import create_engine
from workers.engines.simulated import EXIT_STATUS
from workers.engines.simulated_text import WORDS, expected, expected_ids, expected_text


@pytest_asyncio.fixture
async def driver() -> AsyncIterator[Driver]:
    driver = Driver("own", create_engine(EngineSettings(kind="simulated", simulated=FAST)))
    await driver.start()
    yield driver
    await driver.engine.close()


def test_text_follows_from_ids() -> None:
    body = completion("A mill is", ignore_eos=True)

    assert expected_text(body) == "".join(WORDS[token] for token in expected_ids(body))
    two = body | {"n": 2}
    assert expected_ids(two, 0) != expected_ids(two, 1)
    assert expected_ids({**body, "max_tokens": 10}) == expected_ids(body)[:10]


def test_some_prompts_end_by_themselves() -> None:
    reasons = [expected(completion(f"{n}", max_tokens=300)).finish_reason for n in range(40)]

    assert {"stop", "length"} == set(reasons)


async def test_an_error_ends_every_attempt_after_its_tokens(driver: Driver) -> None:
    body = chat("[[fault:error=3]]", ignore_eos=True)
    first = await driver.ended(await driver.add(body))
    assert isinstance(first.error, EngineError)
    assert tuple(first.choices[0].ids) == expected_ids(body)[:3]

    logged = first.choices[0].logged(3)
    second = await driver.ended(await driver.add(body, {0: logged}))
    assert isinstance(second.error, EngineError)
    assert tuple(second.choices[0].ids) == expected_ids(body)[3:6]


async def test_an_error_once_spares_a_continued_generation(driver: Driver) -> None:
    body = chat("[[fault:error-once]]", ignore_eos=True)
    failed = await driver.ended(await driver.add(body))
    assert isinstance(failed.error, EngineError)

    logged = failed.choices[0].logged(4)
    rest = await driver.run(body, logged)
    assert logged.text + rest.text == expected_text(body)


async def test_a_hanging_generation_harms_no_other_and_can_be_aborted(driver: Driver) -> None:
    hanging = await driver.add(chat("[[fault:hang=2]]"))
    await driver.tokens(hanging, 2)
    await driver.run(chat("Hello"))
    assert len(driver.jobs[hanging].choices[0].ids) == 2

    await driver.engine.abort(hanging)
    assert driver.engine.load().running == 0


async def test_death_is_reported_once_and_nothing_is_taken_after_it(driver: Driver) -> None:
    await driver.add(chat("Hello", max_tokens=500))
    await driver.add(chat("[[fault:die]]", ignore_eos=True))
    async with asyncio.timeout(WAIT_SECONDS):
        assert isinstance(await driver.death, EngineDead)

    with pytest.raises(EngineDead):
        await driver.add(chat("Hello"))
    with pytest.raises(EngineDead):
        await driver.engine.probe()


async def test_a_generation_that_cannot_be_continued_starts_anew(driver: Driver) -> None:
    body = chat("[[fault:restart]]", ignore_eos=True)
    whole = await driver.run(body)
    name = await driver.add(body, {0: whole.logged(5)})
    job = await driver.ended(name)

    assert job.accepted is not None
    assert job.accepted.restarted
    assert job.choices[0].ids == whole.ids


async def test_a_slow_prompt_slows_every_step(driver: Driver) -> None:
    started = time.monotonic()
    await driver.run(chat("[[fault:slow=0.02]]", max_tokens=5, ignore_eos=True))

    assert time.monotonic() - started >= 5 * 0.02


async def test_directives_are_text_where_faults_are_off() -> None:
    settings = EngineSettings(kind="simulated", simulated=SimulatedSettings(step_base_seconds=0))
    driver = Driver("calm", create_engine(settings))
    await driver.start()
    body = chat("[[fault:error]]", ignore_eos=True)

    assert (await driver.run(body)).text == expected_text(body)
    await driver.engine.close()


EXIT = """
import asyncio
from tests.contract.conftest import FAST
from tests.contract.driver import Driver, chat
from core.settings.engine import EngineSettings
from workers.engine_factory import create_engine

async def main():
    driver = Driver("x", create_engine(EngineSettings(kind="simulated", simulated=FAST)))
    await driver.start()
    await driver.run(chat("[[fault:exit]]", ignore_eos=True))

asyncio.run(main())
"""


def test_exit_leaves_no_time_for_goodbyes() -> None:
    done = subprocess.run([sys.executable, "-c", EXIT], timeout=60, check=False)

    assert done.returncode == EXIT_STATUS
