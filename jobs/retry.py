"""Decides whether and when a failed attempt is repeated, by the backoff rule of `core.backoff`.

Invariant: no delay goes beyond the job's deadline, and an error that another attempt cannot fix
gets none.
"""

from dataclasses import dataclass
from random import Random

from core.backoff import Backoff
from core.errors import PipelineError
from core.settings.queue import RetrySettings


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after this long."""

    after_seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Fail now; `dead_letter` when the job failed too often, not because of its request."""

    dead_letter: bool


def decide(
    error: PipelineError,
    failures: int,
    settings: RetrySettings,
    seconds_left: float | None,
    random: Random,
) -> Retry | GiveUp:
    """Decide what follows a failed attempt.

    Args:
        error: Why it failed.
        failures: Failed attempts of the job so far, this one included if it counts.
        settings: The most attempts, and the backoff.
        seconds_left: Seconds until the job's deadline, None without one.
        random: Draws the jitter.
    """
    if not error.retryable:
        return GiveUp(dead_letter=False)
    if failures >= settings.max_attempts:
        return GiveUp(dead_letter=True)
    delay = Backoff(settings.base_seconds, settings.cap_seconds).delay(max(1, failures), random)
    if seconds_left is not None and delay >= seconds_left:
        return GiveUp(dead_letter=False)
    return Retry(after_seconds=delay)
