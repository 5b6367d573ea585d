"""Simulate: the planner's error against the real pipeline's waiting times, and its speed.

Speed is given in CPU seconds: an hour of the shipped trace, and a plan for 1,000 workers and
10,000 requests a second.
"""

import random
import time
from array import array
from pathlib import Path

from bench.figure import Figure
from bench.loads.replay import Observed, replay
from bench.servers.pipeline_servers import pipeline
from core.runtime.child_process import free_port
from core.settings.tree import Settings
from jobs.store.store_factory import open_store
from planning import synthetic
from planning.controllers import Controller, KedaController, Timetable
from planning.outcome import Spread
from planning.policy import SHIPPED
from planning.profile import EngineProfile, read_profile, simulated_profile
from planning.simulation import Simulation
from planning.trace import Trace, TraceRequest, as_trace, read_trace

PLANNING = Path(synthetic.__file__).parent
WORKERS = 2
#: Steps are long, so that delays of a loaded machine add little to each.
ENGINE = {
    "kind": "simulated",
    "served_name": "sim",
    "slots": 4,
    "simulated": {
        "step_base_seconds": 0.06,
        "step_per_sequence_seconds": 0.002,
        "prefill_tokens_per_second": 20_000,
    },
}
#: Three times what the workers can serve, from two accounts, with a few urgent jobs; then a calm.
WAVE_SECONDS, WAVE_RATE, SECONDS, URGENT_RATE = 3.0, 14.0, 15.0, 1.0
OUTPUT = 20
MUST_PERCENT, AIM_PERCENT = 15, 5

FLEET, RATE, PLANNED_SECONDS = 1_000, 10_000, 60


async def measure() -> Figure:
    """Replay a wave in real time and simulate it; then time an hour and a large fleet."""
    async with pipeline(worker=False, engine=ENGINE) as servers:
        for number in range(WORKERS):
            port = free_port()
            ready = f"http://127.0.0.1:{port}/ready"
            env = {"PENSTOCK_WORKER__HEALTH_PORT": str(port)}
            servers.start(f"worker-{number}", "workers", ready, **env)
        store = open_store(servers.settings)
        observed = await replay(store, servers.settings, wave())
        await store.close()
    compared = compare(observed, servers.settings)
    return Figure(
        "simulate",
        round(max(abs(share) for share in compared["off_percent"].values()), 1),
        "% off",
        must=MUST_PERCENT,
        aim=AIM_PERCENT,
        higher=False,
        compared_with="mean, P50 and P95 of the real pipeline's waits under the same arrivals",
        details={**compared, **speed()},
    )


def wave() -> Trace:
    """Return the workload that is replayed."""
    chance = random.Random(20261122)
    requests = []
    for account, tier, rate, seconds in (
        ("acme", 1, WAVE_RATE, WAVE_SECONDS),
        ("birch", 1, WAVE_RATE, WAVE_SECONDS),
        ("birch", 0, URGENT_RATE, SECONDS),
    ):
        at = chance.expovariate(rate)
        while at < seconds:
            output = 1 + int(chance.expovariate(1 / OUTPUT))
            requests.append(TraceRequest(at, chance.randrange(1, 800), output, account, tier))
            at += chance.expovariate(rate)
    return as_trace(sorted(requests, key=lambda request: request.at))


def compare(observed: Observed, settings: Settings) -> dict[str, dict[str, float]]:
    """Simulate the observed trace; return both waiting times and their difference in percent."""
    profile = simulated_profile(settings.engine)
    run = Simulation(observed.trace, profile, Timetable([WORKERS]), settings.queue).run()
    real, planned = Spread.of(observed.waits).as_dict(), Spread.of(run.waits()).as_dict()
    off = {
        name: round(100 * (planned[name] / real[name] - 1), 1) for name in ("mean", "p50", "p95")
    }
    return {"off_percent": off, "real_wait_seconds": real, "planned_wait_seconds": planned}


def speed() -> dict[str, float]:
    """Return the CPU time of an hour of trace, and of a large plan from its first minute."""
    engine = read_profile(PLANNING / "engines" / "reference.json")
    hour = read_trace(PLANNING / "traces" / "synthetic.csv")
    shipped = KedaController(SHIPPED, engine.slots, 1)
    large = SHIPPED.with_(min_replicas=FLEET * 6 // 10, max_replicas=FLEET, target=0.6)
    fleet = KedaController(large, engine.slots, 1)
    minute, busiest = _cpu_seconds(crowd(PLANNED_SECONDS), engine, fleet)
    return {
        "hour_of_trace_cpu_seconds": round(_cpu_seconds(hour, engine, shipped)[0], 2),
        "hour_of_trace_must_seconds": 5,
        "large_plan_requests": RATE * PLANNED_SECONDS,
        "large_plan_most_workers": busiest,
        "large_plan_cpu_seconds": round(minute, 1),
        "large_plan_hour_cpu_minutes": round(minute * 60 / PLANNED_SECONDS, 1),
    }


def crowd(seconds: int) -> Trace:
    """Return a trace of RATE short requests per second."""
    chance = random.Random(1)
    count = RATE * seconds
    return Trace(
        arrivals=array("d", sorted(chance.random() * seconds for _ in range(count))),
        inputs=array("q", (chance.randrange(50, 550) for _ in range(count))),
        outputs=array("q", (chance.randrange(1, 120) for _ in range(count))),
        accounts=["crowd"] * count,
        tiers=array("b", [1]) * count,
    )


def _cpu_seconds(trace: Trace, engine: EngineProfile, controller: Controller) -> tuple[float, int]:
    began = time.process_time()
    outcome = Simulation(trace, engine, controller).run()
    if outcome.served != len(trace):
        raise RuntimeError(f"{len(trace) - outcome.served} requests were not served")
    return time.process_time() - began, outcome.peak
