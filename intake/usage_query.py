"""Reads what usage a client asks for, and the cursor that goes on from a page."""

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from datetime import UTC, date, datetime

import orjson

from accounts.caller import Caller
from accounts.errors import AccountNotFound
from billing.reports.usage import DIMENSIONS, Place, UsageQuery, UsageTotal
from wire.errors import FieldError, InvalidBody, InvalidCursor

MOST_DAYS = 366
FIRST, LAST = date(1970, 1, 1), date(9999, 12, 30)


def read_usage_query(
    key: Caller,
    since: str | None,
    until: str | None,
    group_by: str,
    limit: int,
    after: str | None,
    account: str | None,
) -> UsageQuery:
    """Return what is asked for; without days, the present UTC month so far.

    Raises:
        InvalidBody, InvalidCursor: naming the parameter and what is expected.
        AccountNotFound: the key does not belong to that account, nor to an admin.
    """
    if account not in (None, key.account) and not key.admin:
        raise AccountNotFound(f"no account {account!r}", param="account")
    today = datetime.now(UTC).date()
    last = today if until is None else _day("to", until)
    first = last.replace(day=1) if since is None else _day("from", since)
    if first > last:
        raise _wrong("from", f"a day not after `to`, {last}, is expected")
    if (last - first).days >= MOST_DAYS:
        raise _wrong("from", f"at most {MOST_DAYS} days up to `to`, {last}, can be asked for")
    by = _dimensions(group_by)
    place = None if after is None else _place(after, by)
    return UsageQuery(account or key.account, first, last, by, place, limit)


def usage_cursor(query: UsageQuery, last: UsageTotal) -> str:
    """Return the cursor that goes on after a group."""
    return urlsafe_b64encode(orjson.dumps([query.by, last.place])).decode().rstrip("=")


def _day(param: str, text: str) -> date:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        day = None
    # There are other ways to write a day in ISO 8601.
    if day is None or day.isoformat() != text or not FIRST <= day <= LAST:
        raise _wrong(param, "a UTC day such as 2026-11-22 is expected")
    return day


def _dimensions(text: str) -> tuple[str, ...]:
    """Return what to group by, in the order groups are sorted in."""
    asked = text.split(",")
    if not set(asked) <= set(DIMENSIONS) or len(set(asked)) != len(asked):
        raise _wrong("group_by", f"some of {', '.join(DIMENSIONS)}, each once, is expected")
    return tuple(name for name in DIMENSIONS if name in asked)


def _place(cursor: str, by: Sequence[str]) -> Place:
    """Read a cursor; one of another grouping would pass over groups."""
    try:
        raw = urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4))
        asked, place = orjson.loads(raw)
        whole = asked == list(by) and len(place) == len(by) + 1
        if whole and all(isinstance(value, str) and "\0" not in value for value in place):
            if by[0] == "day":
                date.fromisoformat(place[0])
            return tuple(place)
    except (ValueError, TypeError, binascii.Error):
        pass
    raise InvalidCursor(
        "after: the `next` of an earlier page with the same `group_by` is expected", param="after"
    )


def _wrong(param: str, message: str) -> InvalidBody:
    return InvalidBody([FieldError(f"/{param}", param, message)])
