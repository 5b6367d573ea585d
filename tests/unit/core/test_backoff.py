"""The one backoff rule."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from core.backoff import Backoff


def test_the_ceiling_doubles_up_to_the_cap() -> None:
    backoff = Backoff(base_seconds=0.5, cap_seconds=3.0)
    assert [backoff.ceiling(failures) for failures in range(1, 6)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    assert backoff.ceiling(100_000) == 3.0


@given(failures=st.integers(1, 5_000), seed=st.integers())
def test_a_delay_lies_between_zero_and_its_ceiling(failures: int, seed: int) -> None:
    backoff = Backoff(base_seconds=0.1, cap_seconds=10.0)
    assert 0 <= backoff.delay(failures, Random(seed)) <= backoff.ceiling(failures)


def test_delays_are_spread() -> None:
    backoff, random = Backoff(1.0, 60.0), Random(7)
    drawn = [backoff.delay(4, random) for _ in range(1_000)]
    assert min(drawn) < 0.5
    assert max(drawn) > 7.5
