"""A circuit breaker around the engine: closed, open, half-open.

`failures` within `window_seconds` open it if jobs of several accounts failed while they ran alone;
other failures only ask for a probe, because one client's requests may be at fault. A failed probe
opens it. After `cooldown_seconds` another probe decides whether it closes or opens again (Nygard,
"Release It!", 2nd ed., ch. 5). Invariant: while it is open nothing is claimed, so a broken engine
costs no job an attempt; the failures of one account never open it.
"""

from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from core.settings.engine import BreakerSettings


class BreakerState(StrEnum):
    """The state of a circuit breaker; `half_open` means that a probe is running."""

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
        self._probe_wanted = False
        self._probing = False
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
        """Count a generation that completed: it clears the failures of a closed breaker."""
        if self.state is BreakerState.CLOSED:
            self._failures.clear()

    def record_failure(self, account: str, *, alone: bool) -> None:
        """Count a generation that the engine failed; enough of them open the breaker.

        Args:
            account: Whose job it was.
            alone: Whether the job ran alone, so that no other job can be at fault.
        """
        self._failures.append(EngineFailure(self._clock(), account, alone))
        if self.state is not BreakerState.CLOSED or self.failures < self._settings.failures:
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
        if self.state is not BreakerState.OPEN or self.seconds_to_probe > 0:
            return False
        self.state = BreakerState.HALF_OPEN
        return True

    def end_probe(self, *, healthy: bool) -> None:
        """Close after a successful probe, open again after a failed one.

        Args:
            healthy: Whether the engine generated a token in time.
        """
        self._probing = False
        if healthy:
            self.state = BreakerState.CLOSED
            self.opened_at = None
            self._failures.clear()
        else:
            self._open()

    def _open(self) -> None:
        self.state = BreakerState.OPEN
        self._probe_wanted = False
        self.opened_at = self._clock()
