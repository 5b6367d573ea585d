"""The circuit breaker: it opens at its threshold and probes after its cooldown."""

import pytest

from core.settings.engine import BreakerSettings
from workers.circuit_breaker import BreakerState, CircuitBreaker

SETTINGS = BreakerSettings(failures=3, window_seconds=10, cooldown_seconds=5)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(SETTINGS, clock)


def fail(breaker: CircuitBreaker, times: int, accounts: str = "ab", *, alone: bool = True) -> None:
    for number in range(times):
        breaker.record_failure(accounts[number % len(accounts)], alone=alone)


def test_it_opens_at_the_threshold_and_not_before(breaker: CircuitBreaker) -> None:
    fail(breaker, 2)
    assert breaker.allows_claims
    fail(breaker, 1)
    assert breaker.state is BreakerState.OPEN
    assert not breaker.allows_claims


@pytest.mark.parametrize(("accounts", "alone"), [("a", True), ("abc", False)])
def test_failures_of_one_account_or_beside_others_only_ask_for_a_probe(
    breaker: CircuitBreaker, accounts: str, alone: bool
) -> None:
    fail(breaker, 2, accounts, alone=alone)
    assert not breaker.begin_probe()
    fail(breaker, 20, accounts, alone=alone)
    assert breaker.allows_claims
    assert breaker.begin_probe()
    assert breaker.allows_claims, "jobs are claimed while a closed breaker probes"
    fail(breaker, 3, accounts, alone=alone)
    assert not breaker.begin_probe(), "one probe at a time"
    breaker.end_probe(healthy=True)
    assert breaker.failures == 0
    fail(breaker, 3, accounts, alone=alone)
    assert breaker.begin_probe()
    breaker.end_probe(healthy=False)
    assert breaker.state is BreakerState.OPEN


def test_old_failures_do_not_count(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 2)
    clock.now = 11
    fail(breaker, 2)
    assert breaker.allows_claims


def test_a_success_in_between_clears_the_count(breaker: CircuitBreaker) -> None:
    fail(breaker, 2)
    breaker.record_success()
    fail(breaker, 2)
    assert breaker.allows_claims


def test_one_probe_after_the_cooldown_decides(breaker: CircuitBreaker, clock: Clock) -> None:
    fail(breaker, 3)
    assert not breaker.begin_probe()
    clock.now = 5
    assert breaker.begin_probe()
    assert not breaker.begin_probe(), "one probe at a time"
    breaker.end_probe(healthy=False)
    assert not breaker.allows_claims
    assert breaker.seconds_to_probe == 5
    clock.now = 10
    assert breaker.begin_probe()
    breaker.end_probe(healthy=True)
    assert breaker.allows_claims
    assert breaker.failures == 0
