"""A circuit breaker around the engine: closed, open, half-open.

`failures` within `window_seconds` open it if jobs of several accounts failed while they ran alone;
other failures only ask for a probe, because one client's requests may be at fault. With a
`failure_rate` they must also be that share of the generations in the window; without one, a success
clears them. A failed probe opens it. After `cooldown_seconds` probes decide: `successes` in a row
close it, one failure opens it again (Nygard, "Release It!", 2nd ed., ch. 5). Invariant: while it is
open nothing is claimed, so a broken engine costs no job an attempt; the failures of one account
never open it.
"""

from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple

from core.settings.engine import BreakerSettings

#: The most successes that are remembered; more within a window are counted as so many.
MANY = 100_000


class BreakerState(StrEnum):
    """The state of a circuit breaker; `half_open` means that probes decide what follows."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class EngineFailure(NamedTuple):
    """A failed generation; `at` in monotonic seconds, `alone` if no other job was involved."""

    at: float
    account: str
    alone: bool


class CircuitBreaker:
    """Counts engine failures and says whether jobs may be claimed."""

    def __init__(self, settings: BreakerSettings, clock: Callable[[], float]) -> None:
        """Create a closed breaker.

        Args:
            settings: How many failures in which window open it, and its cool-down in seconds.
            clock: Returns monotonic seconds.
        """
        self._settings = settings
        self._clock = clock
        self._failures: deque[EngineFailure] = deque()
        self._successes: deque[float] = deque()
        self._probe_wanted = False
        self._probing = False
        self._probes_succeeded = 0
        self._times_opened = 0
        self.state = BreakerState.CLOSED
        self.opened_at: float | None = None

    @property
    def failures(self) -> int:
        """How many failures lie within the window."""
        horizon = self._clock() - self._settings.window_seconds
        while self._failures and self._failures[0].at < horizon:
            self._failures.popleft()
        return len(self._failures)

    @property
    def successes(self) -> int:
        """How many generations that completed lie within the window."""
        horizon = self._clock() - self._settings.window_seconds
        while self._successes and self._successes[0] < horizon:
            self._successes.popleft()
        return len(self._successes)

    @property
    def allows_claims(self) -> bool:
        """Whether jobs may be claimed: only while the breaker is closed."""
        return self.state is BreakerState.CLOSED

    @property
    def seconds_to_probe(self) -> float:
        """Seconds until a probe is due; 0.0 if one is due now or the breaker is closed."""
        if self.opened_at is None:
            return 0.0
        return max(0.0, self.opened_at + self._settings.cooldown_seconds - self._clock())

    def record_success(self) -> None:
        """Count a generation that completed; without a failure rate it clears the failures."""
        self._successes.append(self._clock())
        if len(self._successes) > MANY:
            self._successes.popleft()
        if self.state is BreakerState.CLOSED and not self._settings.failure_rate:
            self._failures.clear()

    def record_failure(self, account: str, *, alone: bool) -> None:
        """Count a generation that the engine failed; enough of them open the breaker.

        Args:
            account: Whose job it was.
            alone: Whether the job ran alone, so that no other job can be at fault.
        """
        self._failures.append(EngineFailure(self._clock(), account, alone))
        if self.state is not BreakerState.CLOSED or not self._too_many:
            return
        certain = [failure for failure in self._failures if failure.alone]
        accounts = {failure.account for failure in certain}
        if len(certain) >= self._settings.failures and len(accounts) > 1:
            self._open()
        else:
            self._probe_wanted = not self._probing

    def begin_probe(self) -> bool:
        """Go half-open if a probe is due; a breaker that is closed stays so meanwhile.

        Returns:
            True if the caller must probe the engine now and then call `end_probe`.
        """
        if self.state is BreakerState.CLOSED and self._probe_wanted:
            self._probe_wanted = False
            self._probing = True
            return True
        if self.state is BreakerState.CLOSED or self._probing or self.seconds_to_probe > 0:
            return False
        self.state = BreakerState.HALF_OPEN
        self._probing = True
        return True

    def end_probe(self, *, healthy: bool) -> None:
        """Close after enough successful probes, open again after a failed one.

        A successful probe that began before the breaker opened changes nothing.

        Args:
            healthy: Whether the engine generated a token in time.
        """
        self._probing = False
        if not healthy:
            self._open()
            return
        if self.state is BreakerState.HALF_OPEN:
            self._probes_succeeded += 1
            if self._probes_succeeded < self._settings.successes:
                return
        elif self.state is BreakerState.OPEN:
            return
        self.state = BreakerState.CLOSED
        self.opened_at = None
        self._failures.clear()

    def describe(self) -> dict[str, Any]:
        """Return state and counts for `/circuit-breaker/status`."""
        failures, successes = self.failures, self.successes
        ended = failures + successes
        certain = [failure for failure in self._failures if failure.alone]
        return {
            "state": self.state,
            "failures": failures,
            "failures_alone": len(certain),
            "accounts_failed_alone": len({failure.account for failure in certain}),
            "successes": successes,
            "failure_rate": round(failures / ended, 4) if ended else None,
            "window_seconds": self._settings.window_seconds,
            "probes_succeeded": self._probes_succeeded,
            "probes_needed": self._settings.successes,
            "times_opened": self._times_opened,
            "seconds_to_probe": round(self.seconds_to_probe, 1),
        }

    @property
    def _too_many(self) -> bool:
        """Whether the failures within the window are enough, by number and by share."""
        failures = self.failures
        share = failures / (failures + self.successes) if failures else 0.0
        return failures >= self._settings.failures and share >= self._settings.failure_rate

    def _open(self) -> None:
        self._times_opened += self.state is BreakerState.CLOSED
        self._probes_succeeded = 0
        self.state = BreakerState.OPEN
        self._probe_wanted = False
        self.opened_at = self._clock()
