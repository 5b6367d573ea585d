"""The generic cell rate algorithm in exact fractions: the reference for the scripts' arithmetic."""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

MINUTE = 60_000


@dataclass
class Bucket:
    """A bucket of one minute's limit, of which `level` is used."""

    limit: int
    level: Fraction = Fraction(0)
    at: int = 0

    def look(self, now: int) -> Fraction:
        """Return the level at this time; a clock that was set back does not raise it."""
        self.at = min(self.at, now)
        return max(Fraction(0), self.level - Fraction((now - self.at) * self.limit, MINUTE))

    def wait(self, units: int, now: int) -> int:
        """Return the milliseconds until an amount fits, 0 if it fits now."""
        return max(0, ceil((self.look(now) + units - self.limit) * MINUTE / self.limit))

    def take(self, units: int, now: int) -> None:
        """Take an amount; a negative one returns it."""
        self.level, self.at = max(Fraction(0), self.look(now) + units), now
