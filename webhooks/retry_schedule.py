"""When a delivery that failed is tried again. Pure; the schedule is published in docs/api.md."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

#: Share by which a pause is lengthened at random, so that retries to one receiver spread out.
JITTER = 0.1

#: Cap on the pause that a receiver can ask for: one day.
LONGEST_SECONDS = 86_400.0

#: Statuses whose `Retry-After` header counts.
RETRY_AFTER_STATUSES = (429, 503)


def pause_seconds(
    pauses: Sequence[int], attempts: int, requested: float | None = None
) -> float | None:
    """Return how long to wait after so many failed attempts; None when that was the last.

    A receiver may ask for more time than the schedule has, and not for less.
    """
    if attempts > len(pauses):
        return None
    pause = pauses[attempts - 1] * random.uniform(1.0, 1.0 + JITTER)
    return max(pause, requested or 0.0)


def retry_after(text: str | None, at: datetime) -> float | None:
    """Read a `Retry-After` header, in seconds or as a date; None when it says nothing."""
    if text is None:
        return None
    if text.isascii() and text.isdigit():
        seconds = float(text[:9])
    else:
        try:
            moment = parsedate_to_datetime(text)
        except ValueError:
            return None
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = (moment - at).total_seconds()
    return min(LONGEST_SECONDS, max(0.0, seconds))
