"""UTC months, and which of them is open. A month is written `2026-11`; text order is time order."""

import re
from collections.abc import Collection
from datetime import UTC, datetime

from billing.errors import InvalidMonth

PATTERN = re.compile(r"\d{4}-(0[1-9]|1[0-2])")


def month_of(instant: datetime) -> str:
    """Return the UTC month an instant lies in."""
    return instant.astimezone(UTC).strftime("%Y-%m")


def next_month(month: str) -> str:
    """Return the month after."""
    year, number = int(month[:4]), int(month[5:])
    return f"{year + number // 12:04}-{number % 12 + 1:02}"


def bounds(month: str) -> tuple[datetime, datetime]:
    """Return a month's first instant and that of the next one.

    Raises:
        ValueError: this is no month.
    """
    if not PATTERN.fullmatch(month):
        raise ValueError(f"{month!r} is no month; one is written like 2026-11")
    later = next_month(month)
    return _first(month), _first(later)


def check_month(month: str) -> tuple[datetime, datetime]:
    """Return a month's first instant and that of the next one.

    Raises:
        InvalidMonth: this is none.
    """
    try:
        return bounds(month)
    except ValueError as error:
        raise InvalidMonth(str(error), param="month") from None


def _first(month: str) -> datetime:
    return datetime(int(month[:4]), int(month[5:]), 1, tzinfo=UTC)


def first_open(month: str, closed: Collection[str]) -> str:
    """Return the month itself, or the first after it that is not closed."""
    while month in closed:
        month = next_month(month)
    return month
