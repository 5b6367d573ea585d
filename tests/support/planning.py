"""Small workloads and engines for tests of the planner."""

import random
from dataclasses import replace

from hypothesis import strategies as st

from planning.controllers import Controller
from planning.outcome import StudyOutcome
from planning.policy import SHIPPED, Behaviour, Policy
from planning.profile import EngineProfile
from planning.simulation import Simulation
from planning.trace import Trace, TraceRequest, as_trace

ENGINE = EngineProfile(
    prefill_tokens_per_second=10_000,
    step_base_seconds=0.02,
    step_per_sequence_seconds=0.0005,
    slots=4,
    start_seconds=20,
)


def poisson(
    rate: float, seconds: float, seed: int, *, output: int = 60, account: str = "acme"
) -> list[TraceRequest]:
    """Return requests of one account at a steady rate."""
    chance = random.Random(seed)
    found, at = [], 0.0
    while (at := at + chance.expovariate(rate)) < seconds:
        length = 1 + int(chance.expovariate(1 / output))
        found.append(TraceRequest(at, chance.randrange(800), length, account))
    return found


def merged(*parts: list[TraceRequest]) -> Trace:
    """Return one trace of several lists of requests."""
    return as_trace(sorted((one for part in parts for one in part), key=lambda one: one.at))


def in_tier(requests: list[TraceRequest], tier: int) -> list[TraceRequest]:
    """Return the requests in another tier."""
    return [replace(request, tier=tier) for request in requests]


def run(trace: Trace, controller: Controller, profile: EngineProfile = ENGINE) -> StudyOutcome:
    """Run a trace to its end."""
    return Simulation(trace, profile, controller).run()


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """Draw a policy that can serve."""
    least = draw(st.integers(0, 3))
    return SHIPPED.with_(
        name="drawn",
        metric=draw(st.sampled_from(["queued+running", "queued"])),
        target=draw(st.sampled_from([0.25, 0.5, 1.0, 2.0])),
        min_replicas=least,
        max_replicas=draw(st.integers(max(1, least), 12)),
        polling_seconds=draw(st.sampled_from([1.0, 5.0, 30.0])),
        cooldown_seconds=draw(st.sampled_from([0.0, 20.0, 300.0])),
        tolerance=draw(st.sampled_from([0.0, 0.1])),
        up=Behaviour(
            window_seconds=draw(st.sampled_from([0, 60])),
            percent=draw(st.sampled_from([None, 50, 100])),
            pods=draw(st.integers(1, 3)),
            period_seconds=draw(st.sampled_from([15, 30, 60])),
        ).model_dump(),
        down=Behaviour(
            window_seconds=draw(st.sampled_from([0, 60, 300])),
            percent=draw(st.sampled_from([25, 50, 100])),
            pods=draw(st.sampled_from([None, 1])),
            period_seconds=draw(st.sampled_from([15, 60])),
        ).model_dump(),
    )


@st.composite
def workloads(draw: st.DrawFn) -> Trace:
    """Draw up to three accounts in any tiers, with a lull or without."""
    seed = draw(st.integers(0, 10_000))
    parts = []
    for number in range(draw(st.integers(1, 3))):
        rate = draw(st.sampled_from([0.3, 2.0, 8.0]))
        part = poisson(rate, 60, seed + number, account=f"account-{number}")
        part = in_tier(part, draw(st.integers(0, 2)))
        if draw(st.booleans()):
            part = [replace(one, at=one.at + 400) if one.at > 30 else one for one in part]
        parts.append(part)
    if not any(parts):
        parts.append([TraceRequest(0.0, 10, 10)])
    return merged(*parts)
