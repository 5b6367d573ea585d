"""`penstock workers` shows what a circuit breaker does and why."""

from cli.commands.workers import COLOURS, breaker_text
from core.settings.engine import BreakerSettings
from workers.circuit_breaker import BreakerState, CircuitBreaker


def test_every_state_of_a_breaker_has_a_colour() -> None:
    assert set(COLOURS) == {state.value for state in BreakerState}


def test_a_breaker_says_what_failed_and_what_it_waits_for() -> None:
    now = [0.0]
    settings = BreakerSettings(failures=2, failure_rate=0.5, successes=3, cooldown_seconds=5)
    breaker = CircuitBreaker(settings, lambda: now[0])
    assert breaker_text(breaker.describe()).markup == "[green]closed[/green]"
    breaker.record_success()
    breaker.record_failure("a", alone=True)
    assert breaker_text(breaker.describe()).markup == "[green]closed[/green], 1 of 2 failed"
    breaker.record_failure("b", alone=True)
    shown = breaker_text(breaker.describe()).markup
    assert shown == "[red]open[/red], 2 of 3 failed, probed in 5 s"
    now[0] = 5.0
    assert breaker.begin_probe()
    breaker.end_probe(healthy=True)
    shown = breaker_text(breaker.describe()).markup
    assert shown == "[yellow]half_open[/yellow], 2 of 3 failed, 1 of 3 probes succeeded"


def test_a_worker_of_an_older_version_is_shown_too() -> None:
    assert breaker_text({}).markup == "[dim]unknown[/dim]"
    old = {"state": "open", "failures": 5, "seconds_to_probe": 2.0}
    assert breaker_text(old).markup == "[red]open[/red], 5 failed, probed in 2 s"
