"""The generic cell rate algorithm in exact fractions: the reference for the scripts' arithmetic."""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

MINUTE = 60_000


@dataclass
class Bucket:
    """A bucket that holds `burst_ms` milliseconds' worth of a limit per minute."""

    limit: int
    burst_ms: int = MINUTE
    level: Fraction = Fraction(0)
    at: int = 0

    @property
    def holds(self) -> Fraction:
        """How much fits."""
        return Fraction(self.limit * self.burst_ms, MINUTE)

    def look(self, now: int) -> Fraction:
        """Return the level at this time; a clock that was set back does not raise it."""
        self.at = min(self.at, now)
        return max(Fraction(0), self.level - Fraction((now - self.at) * self.limit, MINUTE))

    def wait(self, units: int, now: int) -> int:
        """Return the milliseconds until an amount fits, 0 if it fits now."""
        return max(0, ceil((self.look(now) + units - self.holds) * MINUTE / self.limit))

    def take(self, units: int, now: int) -> None:
        """Take an amount; a negative one returns it."""
        self.level, self.at = max(Fraction(0), self.look(now) + units), now
