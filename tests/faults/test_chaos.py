"""A short soak: what `make chaos` does for minutes, for less than one."""

import json

import pytest

from tests.chaos.load import fresh_seed
from tests.chaos.plan import FAULTS, plan
from tests.chaos.run import run_chaos

SECONDS = 30.0


def test_a_seed_replays_the_same_faults() -> None:
    assert plan(7, 60) == plan(7, 60)
    assert plan(7, 60) != plan(8, 60)
    assert {fault.kind for fault in plan(7, 600)} == set(FAULTS)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_under_random_faults_nothing_is_lost_and_nothing_twice() -> None:
    seed = fresh_seed()
    figures = await run_chaos(seed, SECONDS, clients=60)
    print(json.dumps(figures))  # noqa: T201 - the seed of a failure
    assert figures["violations"] == 0, json.dumps(figures, indent=1)
    assert figures["jobs"] > 200
    assert figures["faults"] > 20
