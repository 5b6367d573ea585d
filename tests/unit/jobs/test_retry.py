"""Retry decisions: final errors, the last attempt, backoff and deadline."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from core.errors import EngineError, InvalidJob
from core.settings.queue import RetrySettings
from jobs.retry import GiveUp, Retry, decide

SETTINGS = RetrySettings(max_attempts=4, base_seconds=0.5, cap_seconds=3.0)


def test_an_error_that_another_attempt_cannot_help_is_final() -> None:
    assert decide(InvalidJob("no"), 1, SETTINGS, None, Random(1)) == GiveUp(dead_letter=False)


def test_the_last_attempt_goes_to_the_dead_letters() -> None:
    assert decide(EngineError("x"), 4, SETTINGS, None, Random(1)) == GiveUp(dead_letter=True)


@given(failures=st.integers(1, 3), seed=st.integers())
def test_backoff_never_exceeds_its_ceiling(failures: int, seed: int) -> None:
    decision = decide(EngineError("x"), failures, SETTINGS, None, Random(seed))
    assert isinstance(decision, Retry)
    assert 0 <= decision.after_seconds <= min(3.0, 0.5 * 2 ** (failures - 1))


@given(left=st.floats(0, 2), seed=st.integers())
def test_no_retry_is_planned_beyond_the_deadline(left: float, seed: int) -> None:
    decision = decide(EngineError("x"), 3, SETTINGS, left, Random(seed))
    assert isinstance(decision, GiveUp) or decision.after_seconds < left
