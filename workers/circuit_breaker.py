"""A circuit breaker around the engine: closed, open, half-open.

`failures` within `window_seconds` open it; after `cooldown_seconds` one probe decides whether
it closes or opens again (Nygard, "Release It!", 2nd ed., ch. 5). Invariant: while it is open
nothing is claimed, so a broken engine costs no job an attempt.
"""

from collections import deque
from collections.abc import Callable
from enum import StrEnum

from core.settings.engine import BreakerSettings


class BreakerState(StrEnum):
    """`half_open`: a probe is under way."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CircuitBreaker:
    """Counts engine failures; `clock` returns monotonic seconds."""

    def __init__(self, settings: BreakerSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._failures: deque[float] = deque()
        self.state = BreakerState.CLOSED
        self.opened_at: float | None = None

    @property
    def failures(self) -> int:
        """Failures within the window."""
        horizon = self._clock() - self._settings.window_seconds
        while self._failures and self._failures[0] < horizon:
            self._failures.popleft()
        return len(self._failures)

    @property
    def allows_claims(self) -> bool:
        """Whether jobs may be taken."""
        return self.state is BreakerState.CLOSED

    @property
    def seconds_to_probe(self) -> float:
        """How long until a probe is due; 0 when it is, or when there is nothing to probe."""
        if self.opened_at is None:
            return 0.0
        return max(0.0, self.opened_at + self._settings.cooldown_seconds - self._clock())

    def record_success(self) -> None:
        """A generation ended as it should."""
        if self.state is BreakerState.CLOSED:
            self._failures.clear()

    def record_failure(self) -> None:
        """The engine failed a generation."""
        self._failures.append(self._clock())
        if self.state is BreakerState.CLOSED and self.failures >= self._settings.failures:
            self._open()

    def begin_probe(self) -> bool:
        """Go half-open if a probe is due."""
        if self.state is not BreakerState.OPEN or self.seconds_to_probe > 0:
            return False
        self.state = BreakerState.HALF_OPEN
        return True

    def end_probe(self, *, healthy: bool) -> None:
        """Close after a good probe, open again after a bad one."""
        if healthy:
            self.state = BreakerState.CLOSED
            self.opened_at = None
            self._failures.clear()
        else:
            self._open()

    def _open(self) -> None:
        self.state = BreakerState.OPEN
        self.opened_at = self._clock()
