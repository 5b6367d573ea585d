"""An account's usage summed by day, model and key, by the database.

Invariant: pages are cut between groups, in an order that new usage does not change: the next page
neither repeats nor skips a group that existed before. Usage added to a group in the meantime shows
on the page that has the group.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import FromClause, Select, case, func, select, tuple_

from billing.money import total
from billing.sums import bytewise, exact_sum
from core.db.database import Database
from core.db.sql_time import utc_text
from core.db.tables.base import table_of
from core.db.tables.usage import UsageEventRow

EVENTS = table_of(UsageEventRow)

#: The dimensions that usage can be grouped by, in the order groups are sorted in.
DIMENSIONS = ("day", "model", "key")
AMOUNTS = ("input_amount", "cached_amount", "output_amount")
COUNTS = ("input_tokens", "cached_tokens", "output_tokens")

#: A group's position: its values of the chosen dimensions, then its currency, '' without a price.
UsageCursor = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Which usage: jobs that finished on these UTC days, both included."""

    account: str
    since: date
    until: date
    by: Sequence[str]
    after: UsageCursor | None = None
    limit: int = 100


@dataclass(frozen=True, slots=True)
class UsageTotal:
    """One group; without a currency these are jobs without a price, and so without an amount."""

    group: dict[str, str]
    jobs: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    currency: str | None
    amount: Decimal | None

    @property
    def cursor(self) -> UsageCursor:
        """Return the group's position, from which the next page continues."""
        return (*self.group.values(), self.currency or "")


class _UsageSums(NamedTuple):
    """What a group's row has after its dimensions; amounts are null without a currency."""

    currency: str
    jobs: int
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    input_amount: Decimal
    cached_input_amount: Decimal
    output_amount: Decimal


async def usage_totals(database: Database, query: UsageQuery) -> tuple[list[UsageTotal], bool]:
    """Return a page of totals, and whether more follow."""
    statement = _statement(query, sqlite=database.is_sqlite)
    async with database.read() as connection:
        rows = (await connection.execute(statement)).all()
    totals = [_total(query.by, tuple(row)) for row in rows[: query.limit]]
    return totals, len(rows) > query.limit


def _statement(query: UsageQuery, *, sqlite: bool) -> Select[Any]:
    rows = _rows(query, sqlite=sqlite)
    keys = [bytewise(rows.c[name]) for name in (*query.by, "currency")]
    statement = (
        select(
            *(rows.c[name] for name in (*query.by, "currency")),
            func.count().label("jobs"),
            *(func.sum(rows.c[name]).label(name) for name in COUNTS),
            *(exact_sum(rows.c[name]).label(name) for name in AMOUNTS),
        )
        .group_by(*(rows.c[name] for name in (*query.by, "currency")))
        .order_by(*keys)
        .limit(query.limit + 1)
    )
    if query.after is not None:
        statement = statement.where(tuple_(*keys) > tuple_(*query.after))
    return statement


def _rows(query: UsageQuery, *, sqlite: bool) -> FromClause:
    since = query.since
    if query.after is not None and query.by[0] == "day":
        since = max(since, date.fromisoformat(query.after[0]))
    return (
        select(
            utc_text(EVENTS.c.finished_at, "day", sqlite=sqlite).label("day"),
            *(EVENTS.c.model, EVENTS.c.key_id.label("key")),
            case((EVENTS.c.currency.is_(None), ""), else_=EVENTS.c.currency).label("currency"),
            *(EVENTS.c[name] for name in (*COUNTS, *AMOUNTS)),
        )
        .where(
            EVENTS.c.account_id == query.account,
            EVENTS.c.finished_at >= _midnight(since),
            EVENTS.c.finished_at < _midnight(query.until + timedelta(days=1)),
        )
        .subquery()
    )


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


def _total(by: Sequence[str], row: tuple[Any, ...]) -> UsageTotal:
    """Return the group of a row: values of the dimensions in `by`, then the sums."""
    sums = _UsageSums(*row[len(by) :])
    amounts = (sums.input_amount, sums.cached_input_amount, sums.output_amount)
    return UsageTotal(
        group=dict(zip(by, row, strict=False)),
        jobs=sums.jobs,
        input_tokens=int(sums.input_tokens),
        cached_input_tokens=int(sums.cached_input_tokens),
        output_tokens=int(sums.output_tokens),
        currency=sums.currency or None,
        amount=total(*amounts) if sums.currency else None,
    )
