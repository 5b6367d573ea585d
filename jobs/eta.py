"""When a waiting job will be done, with an error band from measured service times.

A queue of `rank` jobs ahead of this one, `slots` served in parallel with mean service time m
and standard deviation s: the wait for a slot is (rank + 1) / slots service times, the run one
more. The first of them is under way already: the more alike the times are, the nearer to half of
it is left; and slots whose jobs began together come free together, or else in turn, which makes a
difference of up to m either way. Summing k independent times gives a deviation of s * sqrt(k); the
band holds nine of ten jobs or more.
Invariant: no estimate is better than a made-up one: without a worker or a finished job, None.
"""

from dataclasses import dataclass
from math import sqrt

Z_90 = 1.645


@dataclass(frozen=True, slots=True)
class ServiceTimes:
    """What `scripts/position.lua` reports about a queue; times in milliseconds."""

    running: int
    slots: int
    finished: int
    mean: float
    square: float
    now: int = 0


@dataclass(frozen=True, slots=True)
class Eta:
    """Seconds until done: the estimate, and the band that nine of ten keep to."""

    seconds: float
    low: float
    high: float


def estimate(rank: int, times: ServiceTimes) -> Eta | None:
    """Estimate for the waiting job with `rank` jobs ahead of it (0 = next)."""
    if times.slots == 0 or times.finished == 0:
        return None
    mean, deviation = _moments(times)
    free = max(0, times.slots - times.running)
    turns = max(0, rank + 1 - free) / times.slots
    alike = max(0.0, 1 - (deviation / mean) ** 2) if turns and mean else 0.0
    turns -= alike / 2 / times.slots
    phase = alike * mean**2 / 3
    seconds = mean * (turns + 1)
    # The spread of one mean estimate from n samples adds to that of the sum itself.
    unsure = deviation * (turns + 1) / sqrt(times.finished)
    spread = Z_90 * (sqrt(deviation**2 * (turns + 1) + phase) + unsure)
    return Eta(seconds, max(0.0, seconds - spread), seconds + spread)


def estimate_running(elapsed_seconds: float, times: ServiceTimes) -> Eta | None:
    """Estimate for a job that has been running for `elapsed_seconds`."""
    if times.finished == 0:
        return None
    mean, deviation = _moments(times)
    left = mean - elapsed_seconds
    spread = Z_90 * deviation * (1 + 1 / sqrt(times.finished))
    return Eta(max(0.0, left), max(0.0, left - spread), max(0.0, left + spread))


def _moments(times: ServiceTimes) -> tuple[float, float]:
    """Return mean and standard deviation in seconds.

    A handful of samples understates the deviation; the floor of mean / n keeps the band honest
    (one sample: 100 %, ten: 10 %) and fades away.
    """
    mean = times.mean / 1000
    deviation = sqrt(max(0.0, times.square - times.mean**2)) / 1000
    return mean, max(deviation, mean / times.finished)
