"""When a failed attempt is repeated: exponential backoff with full jitter, capped.

Full jitter after Brooker, "Exponential Backoff And Jitter" (AWS Architecture Blog, 2015).
Invariant: never a delay beyond the job's deadline, never another attempt for an error that
another attempt cannot help.
"""

from dataclasses import dataclass
from random import Random

from core.errors import PipelineError
from core.settings.queue import RetrySettings


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again after this long."""

    after_seconds: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Fail now; `dead_letter` when repeated failure rather than the request is to blame."""

    dead_letter: bool


def decide(
    error: PipelineError,
    failures: int,
    settings: RetrySettings,
    seconds_left: float | None,
    random: Random,
) -> Retry | GiveUp:
    """Decide what follows the `failures`-th failed attempt (1 for the first)."""
    if not error.retryable:
        return GiveUp(dead_letter=False)
    if failures >= settings.max_attempts:
        return GiveUp(dead_letter=True)
    ceiling = min(settings.cap_seconds, settings.base_seconds * 2 ** (failures - 1))
    delay = random.uniform(0, ceiling)
    if seconds_left is not None and delay >= seconds_left:
        return GiveUp(dead_letter=False)
    return Retry(after_seconds=delay)
