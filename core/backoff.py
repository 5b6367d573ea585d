"""Exponential backoff with full jitter and a cap: the one rule of every retry in the tree.

Full jitter after Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015): the
delay is drawn evenly from zero to a ceiling that doubles with each failure. Webhooks alone follow
a schedule, because the schedule is published (`webhooks.retry_schedule`).
"""

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait after a failure.

    Attributes:
        base_seconds: The ceiling after the first failure.
        cap_seconds: The ceiling after many.
    """

    base_seconds: float
    cap_seconds: float

    def ceiling(self, failures: int) -> float:
        """Return the longest wait in seconds after the `failures`-th failure in a row, from 1."""
        # 2 ** 60 times any base is above any cap; without the bound, a float would overflow.
        return min(self.cap_seconds, self.base_seconds * 2.0 ** min(failures - 1, 60))

    def delay(self, failures: int, random: Random) -> float:
        """Draw a wait in seconds after the `failures`-th failure in a row, from 1."""
        return random.uniform(0, self.ceiling(failures))
