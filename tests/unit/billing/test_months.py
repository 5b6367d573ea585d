"""Months are UTC months, to the last microsecond."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from billing.months import bounds, first_open, month_of, next_month

zones = st.integers(-23, 23).map(lambda hours: timezone(timedelta(hours=hours)))
instants = st.datetimes(  # Hypothesis adds the time zone
    datetime(1970, 1, 3),  # noqa: DTZ001
    datetime(9998, 12, 1),  # noqa: DTZ001
    timezones=zones,
)


@given(instants)
def test_every_instant_lies_in_exactly_one_month(instant: datetime) -> None:
    first, end = bounds(month_of(instant))

    assert first <= instant < end
    assert month_of(end) == next_month(month_of(instant))
    assert month_of(end - timedelta(microseconds=1)) == month_of(instant)


def test_the_last_microsecond_belongs_to_the_old_year() -> None:
    last = datetime(2026, 12, 31, 23, 59, 59, 999_999, UTC)

    assert month_of(last) == "2026-12"
    assert month_of(last + timedelta(microseconds=1)) == "2027-01"
    east = datetime(2027, 1, 1, 8, tzinfo=timezone(timedelta(hours=9)))
    assert month_of(east) == "2026-12"


@pytest.mark.parametrize("text", ["2026-13", "2026-00", "2026-1", "202611", "2026-11-01", ""])
def test_what_is_no_month_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a month"):
        bounds(text)


def test_late_usage_goes_to_the_first_open_month() -> None:
    closed = {"2026-10", "2026-11", "2026-12"}

    assert first_open("2026-10", closed) == "2027-01"
    assert first_open("2026-09", closed) == "2026-09"
