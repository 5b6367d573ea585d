from dataclasses import replace

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
    assert eta.seconds == 2.0 * (8 / 4 + 1)


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
