"""Parses the query of a usage report, and writes the cursor of its next page."""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import UTC, date, datetime

import orjson

from accounts.caller import Caller
from accounts.errors import AccountNotFound
from billing.reports.usage import DIMENSIONS, UsageCursor, UsageQuery, UsageTotal
from wire.errors import FieldError, InvalidBody, InvalidCursor

MAX_DAYS = 366
FIRST, LAST = date(1970, 1, 1), date(9999, 12, 30)


def read_usage_query(
    caller: Caller,
    since: str | None,
    until: str | None,
    group_by: str,
    limit: int,
    after: str | None,
    account: str | None,
) -> UsageQuery:
    """Parse a query; without days it is for the current UTC month until today.

    Args:
        caller: The caller of the API.
        since: The first UTC day, such as 2026-11-01.
        until: The last UTC day.
        group_by: Dimensions, separated by commas.
        limit: How many groups to return at most.
        after: The cursor of an earlier page.
        account: The account to report on; None for the caller's own.

    Raises:
        InvalidBody, InvalidCursor: naming the parameter and what was expected.
        AccountNotFound: the caller is neither of that account nor the operator.
    """
    if account not in (None, caller.account) and not caller.operator:
        raise AccountNotFound(f"Account {account!r} not found", param="account")
    today = datetime.now(UTC).date()
    last = today if until is None else _day("to", until)
    first = last.replace(day=1) if since is None else _day("from", since)
    if first > last:
        raise _field_error("from", f"expected a day not after `to`, {last}")
    if (last - first).days >= MAX_DAYS:
        raise _field_error("from", f"expected at most {MAX_DAYS} days up to `to`, {last}")
    by = _dimensions(group_by)
    place = None if after is None else _place(after, by)
    return UsageQuery(account or caller.account, first, last, by, place, limit)


def usage_cursor(query: UsageQuery, last: UsageTotal) -> str:
    """Return the cursor of the page that begins after the group `last`."""
    return urlsafe_b64encode(orjson.dumps([query.by, last.cursor])).decode().rstrip("=")


def _day(param: str, text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    # ISO 8601 has other notations for a day; only this one is accepted.
    if day is None or day.isoformat() != text or not FIRST <= day <= LAST:
        raise _field_error(param, "expected a UTC day such as 2026-11-22")
    return day


def _dimensions(text: str) -> tuple[str, ...]:
    """Return the dimensions in the order that groups are sorted by."""
    names = text.split(",")
    if not set(names) <= set(DIMENSIONS) or len(set(names)) != len(names):
        raise _field_error("group_by", f"expected some of {', '.join(DIMENSIONS)}, each once")
    return tuple(name for name in DIMENSIONS if name in names)


def _place(cursor: str, by: Sequence[str]) -> UsageCursor:
    """Parse a cursor; one of another grouping would skip groups, so it is refused."""
    try:
        raw = urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4))
        names, place = orjson.loads(raw)
        whole = names == list(by) and len(place) == len(by) + 1
        if whole and all(isinstance(value, str) and "\0" not in value for value in place):
            if by[0] == "day":
                date.fromisoformat(place[0])
            return tuple(place)
    except (ValueError, TypeError, binascii.Error):
        pass
    raise InvalidCursor(
        "after: expected the `next` of an earlier page with the same `group_by`", param="after"
    )


def _field_error(param: str, message: str) -> InvalidBody:
    return InvalidBody([FieldError(f"/{param}", param, message)])
