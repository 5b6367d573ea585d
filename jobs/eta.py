"""Estimates when a waiting job will be done, with an error band from measured service times.

A queue has `rank` jobs before this one, and `slots` jobs run in parallel with mean service time m
and standard deviation s. The wait for a slot takes (rank + 1) / slots service times, the run one
more. Running jobs have already used part of theirs: the more alike the service times are, the
closer to half is left. Slots whose jobs began together become free together, otherwise in turn,
which changes the wait by up to m. The sum of k independent times has a deviation of s * sqrt(k).
A running job is estimated by the Weibull distribution with the same m and s (the shape by Justus's
approximation), of which only the part beyond the elapsed time is left. A job far beyond the usual
times shows that the measurements do not fit it: the distribution is widened until the job is no
rarer than RAREST. Where its longest output is known, its own pace bounds what is left.
The band holds for at least nine of ten jobs.
Invariant: while the queue starts nothing, without a worker or a finished job there is no estimate,
never an invented one; and the band of a running job is never empty.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import gamma, log, sqrt

Z_90 = 1.645

#: A running job counts as no rarer than exp(-RAREST): one of twenty.
RAREST = 3.0

#: The quantiles of a running job's rest: the estimate and the band.
MEDIAN, LOW, HIGH = 0.5, 0.05, 0.95

#: A job's own pace may slow down by this factor before its bound is too low.
SLOWER = 1.5


class NoEta(StrEnum):
    """Why there is no estimate."""

    QUEUE_PAUSED = "queue_paused"
    NO_WORKER = "no_worker"
    NO_MEASUREMENT = "no_measurement"
    NOT_READY = "not_ready"


@dataclass(frozen=True, slots=True)
class ServiceTimes:
    """Service times of a queue from `scripts/position.lua`, in milliseconds.

    `runs` is false while the queue is paused or closed.
    """

    running: int
    slots: int
    finished: int
    mean: float
    square: float
    now: int = 0
    runs: bool = True


@dataclass(frozen=True, slots=True)
class OutputProgress:
    """How many tokens a running job has generated in how many seconds, of at most how many."""

    tokens: int
    seconds: float
    most: int


@dataclass(frozen=True, slots=True)
class Eta:
    """Seconds until the job is done: the estimate, and a band that holds for nine of ten jobs."""

    seconds: float
    low: float
    high: float


def missing(times: ServiceTimes) -> NoEta | None:
    """Return why a waiting job has no estimate, None if it has one."""
    if not times.runs:
        return NoEta.QUEUE_PAUSED
    if not times.slots:
        return NoEta.NO_WORKER
    return None if times.finished else NoEta.NO_MEASUREMENT


def estimate(rank: int, times: ServiceTimes) -> Eta | None:
    """Estimate for the waiting job with `rank` jobs ahead of it (0 = next)."""
    if missing(times):
        return None
    mean, deviation = _moments(times)
    free = max(0, times.slots - times.running)
    turns = max(0, rank + 1 - free) / times.slots
    alike = max(0.0, 1 - (deviation / mean) ** 2) if turns else 0.0
    turns -= alike / 2 / times.slots
    phase = alike * mean**2 / 3
    seconds = mean * (turns + 1)
    # The error of a mean of n samples adds to the spread of the sum itself.
    unsure = deviation * (turns + 1) / sqrt(times.finished)
    spread = Z_90 * (sqrt(deviation**2 * (turns + 1) + phase) + unsure)
    return Eta(seconds, max(0.0, seconds - spread), seconds + spread)


def estimate_running(
    elapsed_seconds: float, times: ServiceTimes, output: OutputProgress | None = None
) -> Eta | None:
    """Estimate for a job that has been running for `elapsed_seconds`.

    Args:
        elapsed_seconds: How long its attempt has run.
        times: The queue's service times.
        output: What it has generated, if its longest output is known.
    """
    bound = _bound(output)
    if times.finished == 0:
        return None if bound is None else Eta(bound, 0.0, SLOWER * bound)
    mean, deviation = _moments(times)
    low, median, high = (_left(elapsed_seconds, mean, deviation, at) for at in (LOW, MEDIAN, HIGH))
    if bound is not None:
        low, median, high = min(low, bound), min(median, bound), min(high, SLOWER * bound)
    return Eta(median, low, high)


def _bound(output: OutputProgress | None) -> float | None:
    """Return the seconds that the rest of the longest output takes at the job's own pace."""
    if output is None or output.tokens == 0 or output.tokens >= output.most:
        return None
    return output.seconds * (output.most - output.tokens) / output.tokens


def _left(elapsed: float, mean: float, deviation: float, quantile: float) -> float:
    """Return a quantile of the rest of a Weibull time that has lasted for `elapsed` seconds."""
    shape = (deviation / mean) ** -1.086
    scale = mean / gamma(1 + 1 / shape)
    if elapsed > scale:
        # Rarer than RAREST: the times vary more than was measured.
        shape = min(shape, log(RAREST) / log(elapsed / scale))
    hazard = (elapsed / scale) ** shape - log(1 - quantile)
    return float(scale * hazard ** (1 / shape) - elapsed)


def _moments(times: ServiceTimes) -> tuple[float, float]:
    """Return mean and standard deviation in seconds.

    A handful of samples understates the deviation, so it is at least mean / n: 100 % of the mean
    with one sample, 10 % with ten.
    """
    # Redis counts whole milliseconds, so that a very short time is 0.
    mean = max(times.mean, 1.0) / 1000
    deviation = sqrt(max(0.0, times.square - times.mean**2)) / 1000
    return mean, max(deviation, mean / times.finished)
