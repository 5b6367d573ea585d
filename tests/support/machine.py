"""Measures how slow this machine is now, and scales the time limits of tests.

Invariant: a bound is only made longer, by a factor that is measured when the bound would be
missed; on a quiet machine it is the test's own. A test that asserts how long something took
calls `bound(seconds)`, which marks it as sensitive to load.
"""

import time

#: Duration of `_work` on a quiet machine with two cores of 2020, in seconds.
REFERENCE_SECONDS = 0.05
#: The largest factor: on a slower machine, waiting longer shows nothing.
MOST = 60.0


def slowness() -> float:
    """Return how many times longer work takes now than on a quiet machine; at least 1.

    Wall time is measured, so both a slow core and a core shared with many others count.
    """
    began = time.perf_counter()
    _work()
    return min(MOST, max(1.0, (time.perf_counter() - began) / REFERENCE_SECONDS))


def bound(seconds: float) -> float:
    """Return a bound that is `seconds` on a quiet machine."""
    return seconds * slowness()


def is_over(began: float, seconds: float) -> bool:
    """Return whether more than the bound has passed since `began` of `time.monotonic`."""
    elapsed = time.monotonic() - began
    return elapsed > seconds and elapsed > bound(seconds)


def _work() -> int:
    return sum(number * number for number in range(1_750_000))
