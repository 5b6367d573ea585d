"""Estimates when a waiting job will be done, with an error band from measured service times.

A queue has `rank` jobs before this one, and `slots` jobs run in parallel with mean service time m
and standard deviation s. The wait for a slot takes (rank + 1) / slots service times, the run one
more. Running jobs have already used part of theirs: the more alike the service times are, the
closer to half is left. Slots whose jobs began together become free together, otherwise in turn,
which changes the wait by up to m. The sum of k independent times has a deviation of s * sqrt(k).
The band holds for at least nine of ten jobs.
Invariant: without a worker or a finished job there is no estimate (None), never an invented one.
"""

from dataclasses import dataclass
from math import sqrt

Z_90 = 1.645


@dataclass(frozen=True, slots=True)
class ServiceTimes:
    """Service times of a queue from `scripts/position.lua`, in milliseconds."""

    running: int
    slots: int
    finished: int
    mean: float
    square: float
    now: int = 0


@dataclass(frozen=True, slots=True)
class Eta:
    """Seconds until the job is done: the estimate, and a band that holds for nine of ten jobs."""

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
    # The error of a mean of n samples adds to the spread of the sum itself.
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

    A handful of samples understates the deviation, so it is at least mean / n: 100 % of the mean
    with one sample, 10 % with ten.
    """
    mean = times.mean / 1000
    deviation = sqrt(max(0.0, times.square - times.mean**2)) / 1000
    return mean, max(deviation, mean / times.finished)
