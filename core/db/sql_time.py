"""Instants in SQL: their UTC day or month as text, and their Unix milliseconds."""

from typing import Literal

from sqlalchemy import BigInteger, ColumnElement, String, cast, func, type_coerce

#: Length of the prefix of `2026-11-22 14:00:00` for a day and for a month.
LENGTHS = {"month": 7, "day": 10}


def utc_text(
    instant: ColumnElement[object], unit: Literal["day", "month"], *, sqlite: bool
) -> ColumnElement[str]:
    """Return an instant's UTC day (`2026-11-22`) or month (`2026-11`)."""
    if sqlite:
        # SQLite stores the UTC time as text.
        return func.substr(type_coerce(instant, String), 1, LENGTHS[unit])
    pattern = "YYYY-MM-DD"[: LENGTHS[unit]]
    return func.to_char(func.timezone("UTC", instant), pattern)


def unix_ms(instant: ColumnElement[object], *, sqlite: bool) -> ColumnElement[int]:
    """Return an instant in whole Unix milliseconds, rounded down."""
    if sqlite:
        text = type_coerce(instant, String)
        seconds = cast(func.strftime("%s", text), BigInteger)
        return seconds * 1000 + cast(func.substr(text, 21, 3), BigInteger)
    return cast(func.floor(func.extract("epoch", instant) * 1000), BigInteger)
