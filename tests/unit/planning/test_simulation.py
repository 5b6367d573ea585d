"""Invariants of a simulation for any workload and policy."""

import itertools
from collections import defaultdict
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from planning.controllers import KedaController, Timetable
from planning.errors import TraceInvalid
from planning.oracle import Planner
from planning.outcome import Objective, Spread, StudyOutcome
from planning.policy import SHIPPED, Policy
from planning.search import grid, recommend
from planning.simulation import Simulation, SimulationBounds
from planning.trace import Trace, TraceRequest, as_trace
from tests.support.planning import ENGINE, merged, poisson, policies, run, workloads

OBJECTIVE = Objective(2.0, 0.95, Decimal("2.00"))
TIGHT = 1e-6


@settings(max_examples=60, deadline=None)
@given(trace=workloads(), policy=policies(), seed=st.integers(0, 99))
def test_every_request_ends_once_and_in_order(trace: Trace, policy: Policy, seed: int) -> None:
    outcome = run(trace, KedaController(policy, ENGINE.slots, seed))

    assert outcome.served == len(trace)
    least_step = ENGINE.step_base_seconds + ENGINE.step_per_sequence_seconds
    for i in range(len(trace)):
        assert trace.arrivals[i] + ENGINE.claim_seconds <= outcome.starts[i] + TIGHT
        assert outcome.starts[i] + least_step <= outcome.firsts[i] + TIGHT
        made = (trace.outputs[i] - 1) * least_step
        assert outcome.firsts[i] + made <= outcome.ends[i] + TIGHT
    last = outcome.samples[-1]
    assert outcome.paid_seconds <= outcome.peak * (outcome.seconds + ENGINE.drain_seconds) * 2
    assert outcome.busy_seconds <= outcome.paid_seconds + TIGHT
    assert last.queued + last.running <= len(trace)


@settings(max_examples=60, deadline=None)
@given(trace=workloads(), policy=policies(), seed=st.integers(0, 99))
def test_never_more_running_than_the_workers_that_are_up_hold(
    trace: Trace, policy: Policy, seed: int
) -> None:
    outcome = run(trace, KedaController(policy, ENGINE.slots, seed))

    assert_none_before_start_up(outcome, policy)
    for sample in outcome.samples:
        draining = outcome.peak * ENGINE.slots
        assert sample.running <= sample.serving * ENGINE.slots + draining
        assert sample.serving <= sample.replicas <= policy.max_replicas


def assert_none_before_start_up(outcome: StudyOutcome, policy: Policy) -> None:
    """From the history of sizes alone: what could be up when each request was claimed."""
    if policy.min_replicas:
        return
    asked = next(at for at, size in outcome.sizes if size > 0)
    assert min(outcome.starts) >= asked + ENGINE.start_seconds
    for at, size in outcome.sizes:
        if size:
            continue
        later = [again for again, n in outcome.sizes if again > at and n]
        until = (later[0] if later else outcome.seconds) + ENGINE.start_seconds
        assert not any(at + ENGINE.claim_seconds < start < until for start in outcome.starts)


@settings(max_examples=60, deadline=None)
@given(trace=workloads(), workers=st.integers(1, 3))
def test_one_account_in_one_tier_is_served_in_order(trace: Trace, workers: int) -> None:
    outcome = run(trace, Timetable([workers]))

    starts = defaultdict(list)
    for account, tier, start in zip(trace.accounts, trace.tiers, outcome.starts, strict=True):
        starts[account, tier].append(start)
    for found in starts.values():
        assert found == sorted(found)


@settings(max_examples=40, deadline=None)
@given(trace=workloads(), policy=policies(), seed=st.integers(0, 99))
def test_same_seed_same_outcome(trace: Trace, policy: Policy, seed: int) -> None:
    one, other = (run(trace, KedaController(policy, ENGINE.slots, seed)) for _ in range(2))

    assert one == other


@pytest.mark.parametrize("seed", range(5))
def test_more_workers_never_wait_longer(seed: int) -> None:
    trace = merged(poisson(9.0, 120, seed))
    means = [Spread.of(run(trace, Timetable([n])).waits()).mean for n in range(1, 8)]

    assert means[0] > 5
    for fewer, more in itertools.pairwise(means):
        # Batches form differently, so a little tolerance: a step.
        assert more <= fewer + 0.03
    assert means[-1] == pytest.approx(ENGINE.claim_seconds)


def test_light_account_does_not_wait_behind_a_heavy_one() -> None:
    heavy = [TraceRequest(0.001 * i, 100, 100, "heavy") for i in range(400)]
    light = [TraceRequest(5.0 + i, 100, 100, "light") for i in range(10)]
    outcome = run(merged(heavy, light), Timetable([1]))

    waits = defaultdict(list)
    for at, start, account in zip(
        outcome.trace.arrivals, outcome.starts, outcome.trace.accounts, strict=True
    ):
        waits[account].append(start - at)
    assert max(waits["light"]) < 5
    assert max(waits["heavy"]) > 150


def test_drained_worker_hands_its_jobs_over_and_nothing_is_made_twice() -> None:
    trace = as_trace(
        [TraceRequest(0.0, 100, 400), TraceRequest(0.1, 100, 400), TraceRequest(300.0, 1, 1)]
    )
    fields = {"start_seconds": 0.0, "drain_seconds": 1.0, "slots": 1}
    profile = ENGINE.model_copy(update={**fields, "prefill_tokens_per_second": 100.0})
    outcome = run(trace, Timetable([2, 1, 1, 1, 1, 1], interval=4.0), profile)

    assert outcome.handed_over == 1
    step = profile.step_base_seconds + profile.step_per_sequence_seconds
    first, second = sorted(outcome.ends[:2])
    assert first == pytest.approx(1 + 400 * step, abs=0.2)
    # The other one ran for 5 s, one of them for its prompt; then it waited for the first one,
    # read its prompt and its own tokens again, and made the rest.
    made = int((5 - 1 - 0.1) / step)
    again = (100 + made) / 100 + (400 - made) * step
    assert second == pytest.approx(first + again, abs=0.3)
    assert outcome.paid_seconds == pytest.approx(outcome.seconds + 5, abs=0.01)


def test_scaling_to_zero_pays_for_nothing_in_between() -> None:
    trace = as_trace([TraceRequest(0.0, 10, 10), TraceRequest(3_000.0, 10, 10)])
    policy = SHIPPED.with_(cooldown_seconds=60)
    outcome = run(trace, KedaController(policy, ENGINE.slots, 1))

    assert outcome.worker_starts == 2
    assert 60 < outcome.paid_seconds < 130
    assert all(ENGINE.start_seconds < wait < 35 for wait in outcome.waits())


def test_unserved_requests_are_counted_and_the_run_ends() -> None:
    trace = as_trace([TraceRequest(0.0, 10, 10), TraceRequest(1.0, 10, 10)])
    outcome = run(trace, KedaController(SHIPPED.with_(activation=5), ENGINE.slots, 1))

    assert outcome.served == 0
    assert outcome.within(OBJECTIVE) == 0
    assert outcome.cost_per_million(Decimal(1)) is None


def test_run_that_cannot_meet_its_bounds_any_more_stops() -> None:
    trace = merged(poisson(50.0, 60, 1))
    outcome = Simulation(trace, ENGINE, Timetable([1]), bounds=SimulationBounds(0.5, 10)).run()

    assert not outcome.complete
    assert not outcome.meets(OBJECTIVE)
    assert outcome.seconds == trace.seconds
    assert outcome.served < len(trace) / 2


def test_request_that_no_memory_holds_is_named() -> None:
    profile = ENGINE.model_copy(update={"kv_tokens": 500})

    with pytest.raises(TraceInvalid, match=r"request 2 holds 601 tokens.*cache of 500"):
        run(as_trace([TraceRequest(0, 10, 10), TraceRequest(1, 600, 1)]), Timetable([1]), profile)


def test_fixed_fleet_is_the_smallest_that_meets_the_objective() -> None:
    planner = Planner(merged(poisson(9.0, 200, 4)), ENGINE, OBJECTIVE)

    fleet = planner.fixed(50)

    assert fleet is not None
    assert planner.run(Timetable([fleet])).meets(OBJECTIVE)
    assert not planner.run(Timetable([fleet - 1])).meets(OBJECTIVE)
    assert planner.fixed(fleet - 1) is None


def test_oracle_meets_the_objective_for_less_than_a_fixed_fleet() -> None:
    trace = merged(poisson(9.0, 200, 4), [TraceRequest(2_000.0 + i, 10, 60) for i in range(50)])
    planner = Planner(trace, ENGINE, OBJECTIVE)
    fleet = planner.fixed(50)
    assert fleet is not None

    oracle = planner.run(planner.timetable(planner.oracle(fleet)))
    fixed = planner.run(Timetable([fleet]))

    assert oracle.meets(OBJECTIVE)
    assert oracle.gpu_hours < 0.5 * fixed.gpu_hours
    work = fixed.busy_seconds / fleet
    assert oracle.paid_seconds > work


def test_recommendation_is_the_best_of_the_grid_at_every_phase() -> None:
    planner = Planner(merged(poisson(6.0, 300, 4)), ENGINE, OBJECTIVE)
    fleet = planner.fixed(20)

    tried = recommend(planner, SHIPPED, fleet, seed=1)

    assert len(tried) == len(list(grid(SHIPPED, ENGINE.slots, fleet)))
    best = tried[0]
    for seed in range(1, 5):
        outcome = planner.run(KedaController(best.policy, ENGINE.slots, seed))
        assert outcome.meets(OBJECTIVE)
    cheaper = [one for one in tried if one.outcome.gpu_hours < best.outcome.gpu_hours]
    for one in cheaper:
        assert not all(
            planner.run(KedaController(one.policy, ENGINE.slots, seed)).meets(OBJECTIVE)
            for seed in range(1, 5)
        )


def test_impossible_objective_recommends_what_comes_closest() -> None:
    planner = Planner(merged(poisson(6.0, 100, 4)), ENGINE, Objective(1e-6, 0.95, Decimal(1)))

    assert planner.fixed(3) is None
    tried = recommend(planner, SHIPPED, None, seed=1)
    shares = [one.outcome.within(planner.objective) for one in tried]
    assert shares[0] == max(shares)


def test_spread_uses_nearest_ranks() -> None:
    spread = Spread.of([float(n) for n in range(100, 0, -1)])

    assert (spread.p50, spread.p95, spread.p99, spread.most) == (50, 95, 99, 100)
    assert spread.mean == 50.5


def test_money_is_gpu_hours_times_price() -> None:
    profile = ENGINE.model_copy(update={"gpus": 8})
    trace = as_trace([TraceRequest(0, 1_000, 10), TraceRequest(3_600, 1_000, 10)])
    outcome = run(trace, Timetable([2]), profile)
    found = outcome.as_dict(OBJECTIVE)

    assert found["gpu_hours"] == pytest.approx(16, abs=0.01)
    assert Decimal(found["cost"]) == pytest.approx(Decimal(32), abs=Decimal("0.01"))
    per_million = Decimal(found["cost_per_million_tokens"])
    assert per_million == pytest.approx(Decimal(32_000_000) / 2_020, rel=Decimal("0.001"))
