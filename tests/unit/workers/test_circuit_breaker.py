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


RATE = SETTINGS.model_copy(update={"failure_rate": 0.5, "successes": 3})


@pytest.fixture
def rated(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(RATE, clock)


def succeed(breaker: CircuitBreaker, times: int) -> None:
    for _ in range(times):
        breaker.record_success()


def test_with_a_rate_failures_open_it_only_as_a_share_of_the_window(
    rated: CircuitBreaker, clock: Clock
) -> None:
    succeed(rated, 6)
    fail(rated, 5)
    assert rated.allows_claims, "5 of 11 failed, which is less than half"
    assert not rated.begin_probe()
    clock.now = 11
    succeed(rated, 3)
    fail(rated, 2)
    assert rated.allows_claims, "what has left the window does not count"
    fail(rated, 1)
    assert rated.state is BreakerState.OPEN, "3 of 6 failed"


def test_with_a_rate_a_success_does_not_hide_the_failures_before_it(
    rated: CircuitBreaker, breaker: CircuitBreaker
) -> None:
    for one in (rated, breaker):
        fail(one, 2)
        one.record_success()
        fail(one, 1)
    assert rated.state is BreakerState.OPEN
    assert breaker.state is BreakerState.CLOSED


@pytest.mark.parametrize(("accounts", "alone"), [("a", True), ("abc", False)])
def test_with_a_rate_too_one_account_never_opens_it(
    rated: CircuitBreaker, accounts: str, alone: bool
) -> None:
    fail(rated, 20, accounts, alone=alone)
    assert rated.allows_claims
    assert rated.begin_probe()


def test_so_many_probes_in_a_row_close_it(rated: CircuitBreaker, clock: Clock) -> None:
    fail(rated, 3)
    clock.now = 5
    for _ in range(2):
        assert rated.begin_probe()
        assert not rated.begin_probe(), "one probe at a time"
        rated.end_probe(healthy=True)
        assert rated.state is BreakerState.HALF_OPEN
        assert not rated.allows_claims
    assert rated.begin_probe()
    rated.end_probe(healthy=False)
    assert rated.state is BreakerState.OPEN
    assert not rated.begin_probe(), "a failed probe costs another cooldown"
    clock.now = 10
    for _ in range(3):
        assert not rated.allows_claims
        assert rated.begin_probe()
        rated.end_probe(healthy=True)
    assert rated.allows_claims


def test_a_probe_of_a_closed_breaker_does_not_close_one_that_opened_meanwhile(
    breaker: CircuitBreaker,
) -> None:
    fail(breaker, 3, "a")
    assert breaker.begin_probe()
    fail(breaker, 1, "b")
    assert breaker.state is BreakerState.OPEN
    breaker.end_probe(healthy=True)
    assert breaker.state is BreakerState.OPEN


def test_its_counts_are_those_it_decides_by(rated: CircuitBreaker, clock: Clock) -> None:
    succeed(rated, 1)
    fail(rated, 2, "ab")
    fail(rated, 1, "c", alone=False)
    shown = rated.describe()
    counts = {name: shown[name] for name in ("failures", "failures_alone", "successes")}
    assert counts == {"failures": 3, "failures_alone": 2, "successes": 1}
    assert (shown["accounts_failed_alone"], shown["failure_rate"]) == (2, 0.75)
    fail(rated, 1, "a")
    clock.now = 5
    assert rated.begin_probe()
    rated.end_probe(healthy=True)
    shown = rated.describe()
    assert (shown["state"], shown["times_opened"]) == ("half_open", 1)
    assert (shown["probes_succeeded"], shown["probes_needed"]) == (1, 3)
    clock.now = 16
    assert rated.describe()["failure_rate"] is None
