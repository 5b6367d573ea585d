"""The planner's waiting times match the real pipeline's for the same arrivals."""

from pathlib import Path

import pytest

from bench.figures.simulate import ENGINE, WORKERS
from bench.loads.replay import replay
from jobs.store.store_factory import open_store
from planning.controllers import Timetable
from planning.outcome import Spread
from planning.profile import simulated_profile
from planning.simulation import Simulation
from tests.conftest import settings_for
from tests.support.planning import in_tier, merged, poisson
from tests.support.processes import pipeline
from tests.support.redis_server import RedisServer


@pytest.mark.slow
async def test_waiting_times_are_within_15_percent_of_the_real_ones(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """A wave of three times what the workers can do, with two accounts and a tier, then a pause."""
    settings = settings_for(redis_server, engine=ENGINE)
    wave = poisson(14.0, 2.0, 1, output=20) + poisson(14.0, 2.0, 2, output=20, account="birch")
    urgent = in_tier(poisson(1.0, 10, 3, output=20, account="birch"), 0)
    trace = merged(wave, urgent)
    with pipeline(settings, tmp_path) as running:
        running.control()
        for process in [running.begin_worker() for _ in range(WORKERS)]:
            process.wait_until_ready()
        store = open_store(settings)
        observed = await replay(store, settings, trace, give_up_seconds=60)
        await store.close()

    profile = simulated_profile(settings.engine)
    outcome = Simulation(observed.trace, profile, Timetable([WORKERS]), settings.queue).run()

    real, planned = Spread.of(observed.waits), Spread.of(outcome.waits())
    assert real.mean > 1
    assert planned.mean == pytest.approx(real.mean, rel=0.15)
    assert planned.p50 == pytest.approx(real.p50, rel=0.15)
    assert planned.p95 == pytest.approx(real.p95, rel=0.15)
    lasted, expected = Spread.of(observed.latencies), Spread.of(outcome.latencies())
    assert expected.mean == pytest.approx(lasted.mean, rel=0.15)
    assert expected.p95 == pytest.approx(lasted.p95, rel=0.15)
