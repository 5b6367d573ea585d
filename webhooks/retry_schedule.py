"""When a failed delivery is tried again. Pure; docs/api.md publishes the schedule."""

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
    """Return the pause before the next attempt, in seconds; None if there is none.

    Args:
        pauses: the schedule: the pause after each failed attempt, in seconds.
        attempts: failed attempts so far.
        requested: the receiver's `Retry-After`; it can lengthen a pause and not shorten it.
    """
    if attempts > len(pauses):
        return None
    pause = pauses[attempts - 1] * random.uniform(1.0, 1.0 + JITTER)
    return max(pause, requested or 0.0)


def retry_after(text: str | None, at: datetime) -> float | None:
    """Read a `Retry-After` header (RFC 9110), in seconds or as a date.

    Args:
        text: the header's value.
        at: the current instant.

    Returns:
        Seconds from 0 to LONGEST_SECONDS; None if there is no header or it cannot be read.
    """
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
