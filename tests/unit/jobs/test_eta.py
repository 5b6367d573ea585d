"""Estimates of when a job starts and ends."""

import heapq
from collections.abc import Callable
from dataclasses import replace
from random import Random
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.eta import ServiceTimes, estimate, estimate_running

TIMES = ServiceTimes(running=4, slots=4, finished=100, mean=2_000.0, square=4_250_000.0)


def test_no_estimate_without_a_worker_or_a_finished_job() -> None:
    assert estimate(0, replace(TIMES, slots=0)) is None
    assert estimate(0, replace(TIMES, finished=0)) is None


def test_next_job_on_a_free_slot_takes_one_service_time() -> None:
    eta = estimate(0, replace(TIMES, running=3))
    assert eta is not None
    assert eta.seconds == 2.0


def test_a_full_fleet_adds_the_wait_for_a_slot() -> None:
    eta = estimate(7, TIMES)
    assert eta is not None
    under_way = (1 - 0.25**2) / 2  # of the next job to end, its times being this much alike
    assert eta.seconds == 2.0 * ((8 - under_way) / 4 + 1)


def test_a_running_job_has_the_rest_of_one_service_time_left() -> None:
    eta = estimate_running(0.5, TIMES)
    assert eta is not None
    assert eta.seconds == 1.5
    late = estimate_running(60.0, TIMES)
    assert late is not None
    assert (late.seconds, late.low) == (0.0, 0.0)


def test_one_sample_gives_a_wide_band_not_none() -> None:
    once = replace(TIMES, finished=1, square=TIMES.mean**2)
    eta = estimate_running(0.0, once)
    assert eta is not None
    assert eta.low == 0.0
    assert eta.high > 2 * eta.seconds


@given(rank=st.integers(0, 10_000), square=st.floats(4_000_000, 40_000_000))
def test_the_band_holds_the_estimate_and_widens_with_the_queue(rank: int, square: float) -> None:
    times = replace(TIMES, square=square)
    near, far = estimate(rank, times), estimate(rank + 100, times)
    assert near is not None
    assert far is not None
    assert 0 <= near.low <= near.seconds <= near.high
    assert far.high - far.low >= near.high - near.low


def done_in(rank: int, slots: int, draw: Callable[[], float], random: Random) -> float:
    """Return in how many seconds a job is done that has `rank` jobs before it in a full fleet."""
    ends = [draw() for _ in range(slots)]
    heapq.heapify(ends)
    started = 0.0
    for _ in range(10 * slots):
        started = ends[0]
        heapq.heapreplace(ends, started + draw())
    now = random.uniform(started, ends[0])
    for _ in range(rank):
        heapq.heapreplace(ends, ends[0] + draw())
    return ends[0] + draw() - now


@pytest.mark.parametrize("shape", ["exponential", "even", "alike", "short or long"])
@pytest.mark.parametrize(("rank", "slots"), [(0, 1), (5, 1), (0, 8), (30, 8), (200, 32)])
def test_nine_of_ten_jobs_end_within_the_band(shape: str, rank: int, slots: int) -> None:
    random = Random(f"{shape} {rank} {slots}")
    draw: Callable[[], float] = {
        "exponential": lambda: random.expovariate(0.5),
        "even": lambda: random.uniform(1.0, 3.0),
        "alike": lambda: random.uniform(1.98, 2.02),
        "short or long": lambda: random.choice((0.5, 0.5, 0.5, 6.5)),
    }[shape]
    sample = [1000 * draw() for _ in range(20_000)]
    mean, square = fmean(sample), fmean(time * time for time in sample)
    eta = estimate(rank, ServiceTimes(slots, slots, 500, mean, square))
    assert eta is not None
    took = [done_in(rank, slots, draw, random) for _ in range(400)]
    within = fmean(eta.low <= seconds <= eta.high for seconds in took)
    assert within >= 0.86, "0.9, less what 400 jobs may miss it by"
