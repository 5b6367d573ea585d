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
        """Return what is taken now; a clock that was set back takes nothing back."""
        self.at = min(self.at, now)
        return max(Fraction(0), self.level - Fraction((now - self.at) * self.limit, MINUTE))

    def wait(self, units: int, now: int) -> int:
        """Return milliseconds until so much fits, 0 if it does."""
        return max(0, ceil((self.look(now) + units - self.limit) * MINUTE / self.limit))

    def take(self, units: int, now: int) -> None:
        """Take, or with a negative number give back."""
        self.level, self.at = max(Fraction(0), self.look(now) + units), now
