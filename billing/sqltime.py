"""UTC days and months of instants, as text, computed by the database."""

from typing import Literal

from sqlalchemy import ColumnElement, String, func, type_coerce

#: How many characters of `2026-11-22 14:00:00` say it.
LENGTHS = {"month": 7, "day": 10}


def utc_text(
    instant: ColumnElement[object], unit: Literal["day", "month"], *, sqlite: bool
) -> ColumnElement[str]:
    """Return an instant's UTC day (`2026-11-22`) or month (`2026-11`)."""
    if sqlite:
        # It keeps the UTC time as text.
        return func.substr(type_coerce(instant, String), 1, LENGTHS[unit])
    pattern = "YYYY-MM-DD"[: LENGTHS[unit]]
    return func.to_char(func.timezone("UTC", instant), pattern)
