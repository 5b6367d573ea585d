"""Converts Redis times, which are Unix milliseconds, to instants in UTC."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def from_unix_ms(milliseconds: int) -> datetime:
    """Return the instant of a Unix time in milliseconds, without rounding."""
    return EPOCH + timedelta(milliseconds=milliseconds)
