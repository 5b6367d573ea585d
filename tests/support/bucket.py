"""The generic cell rate algorithm in exact fractions, to check the scripts' arithmetic against."""

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

MINUTE = 60_000


@dataclass
class Bucket:
    """A minute's worth, of which `level` is taken."""

    limit: int
    level: Fraction = Fraction(0)
    at: int = 0

    def look(self, now: int) -> Fraction:
        """Let drain what drained until now; a clock that was set back takes nothing back."""
        passed = max(0, now - self.at)
        self.level = max(Fraction(0), self.level - Fraction(passed * self.limit, MINUTE))
        self.at = now
        return self.level

    def wait(self, units: int, now: int) -> int:
        """Return milliseconds until so much fits, 0 if it does."""
        return max(0, ceil((self.look(now) + units - self.limit) * MINUTE / self.limit))

    def take(self, units: int, now: int) -> None:
        """Take, or with a negative number give back."""
        self.level = max(Fraction(0), self.look(now) + units)
