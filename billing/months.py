"""UTC months as text (`2026-11`), which sorts by time, and which month takes late usage."""

import re
from collections.abc import Collection
from datetime import UTC, datetime

from billing.errors import InvalidMonth

PATTERN = re.compile(r"\d{4}-(0[1-9]|1[0-2])")


def month_of(instant: datetime) -> str:
    """Return the UTC month that contains an instant."""
    return instant.astimezone(UTC).strftime("%Y-%m")


def next_month(month: str) -> str:
    """Return the month after this one."""
    year, number = int(month[:4]), int(month[5:])
    return f"{year + number // 12:04}-{number % 12 + 1:02}"


def bounds(month: str) -> tuple[datetime, datetime]:
    """Return the first instant of a month and that of the next month.

    Raises:
        ValueError: this is not a month.
    """
    if not PATTERN.fullmatch(month):
        raise ValueError(f"{month!r} is not a month: write it as in 2026-11")
    return _first(month), _first(next_month(month))


def check_month(month: str) -> tuple[datetime, datetime]:
    """Return the first instant of a month and that of the next month.

    Raises:
        InvalidMonth: this is not a month.
    """
    try:
        return bounds(month)
    except ValueError as error:
        raise InvalidMonth(str(error), param="month") from None


def _first(month: str) -> datetime:
    return datetime(int(month[:4]), int(month[5:]), 1, tzinfo=UTC)


def first_open(month: str, closed: Collection[str]) -> str:
    """Return this month, or the first month after it that is not in `closed`."""
    while month in closed:
        month = next_month(month)
    return month
