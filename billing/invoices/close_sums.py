"""What a month's ledger adds up to: a row per account and line, summed by the database.

Invariant: events are never read one by one, so five million cost what their sums cost.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.months import next_month
from billing.pricing.rating import TokenCounts
from billing.sums import exact_sum
from core.db.tables.base import table_of
from core.db.tables.invoices import AdjustmentRow
from core.db.tables.usage import UsageEventRow

EVENTS = table_of(UsageEventRow).c
ADJUSTMENTS = table_of(AdjustmentRow)

#: Kind of token -> its columns of tokens and amount.
KINDS = {
    "input": (EVENTS.charged_input_tokens, EVENTS.input_amount),
    "cached_input": (EVENTS.charged_cached_tokens, EVENTS.cached_amount),
    "output": (EVENTS.charged_output_tokens, EVENTS.output_amount),
}
SHARED = (
    *(EVENTS.account_id, EVENTS.currency, EVENTS.model, EVENTS.service_tier),
    *(EVENTS.price_version_id, EVENTS.multiplier, EVENTS.late),
)
CHARGED = or_(*(tokens > 0 for tokens, _ in KINDS.values()))


@dataclass(frozen=True, slots=True)
class KindSum:
    """What the events of a group have of one kind of token."""

    jobs: int
    tokens: int
    amount: Decimal


@dataclass(frozen=True, slots=True)
class UsageGroup:
    """Events that share a line per kind of token."""

    account_id: str
    currency: str
    model: str
    service_tier: str
    price_version_id: str
    multiplier: Decimal
    late: bool
    sums: dict[str, KindSum]


async def sum_month(
    connection: AsyncConnection, month: str, account: str | None = None
) -> list[UsageGroup]:
    """Add up a month's priced usage."""
    columns = []
    for tokens, amount in KINDS.values():
        columns += [
            func.sum(case((tokens > 0, 1), else_=0)),
            func.sum(tokens),
            exact_sum(amount),
        ]
    query = (
        select(*SHARED, *columns)
        .where(EVENTS.month == month, EVENTS.price_version_id.is_not(None))
        .group_by(*SHARED)
    )
    if account is not None:
        query = query.where(EVENTS.account_id == account)
    return [_group(tuple(row)) for row in await connection.execute(query)]


def _group(row: tuple[Any, ...]) -> UsageGroup:
    shared, sums = row[: len(SHARED)], row[len(SHARED) :]
    by_kind = {
        kind: KindSum(int(sums[3 * index]), int(sums[3 * index + 1]), sums[3 * index + 2])
        for index, kind in enumerate(TokenCounts._fields)
    }
    named = {column.name: value for column, value in zip(SHARED, shared, strict=True)}
    return UsageGroup(**named, sums=by_kind)


async def unpriced_models(connection: AsyncConnection, month: str) -> dict[str, int]:
    """Return how many events of which models should be charged and have no price yet."""
    query = (
        select(EVENTS.model, func.count())
        .where(EVENTS.month == month, EVENTS.price_version_id.is_(None), CHARGED)
        .group_by(EVENTS.model)
    )
    return dict(sorted(tuple(row) for row in await connection.execute(query)))


async def earliest_open(
    connection: AsyncConnection, month: str, closed: Collection[str]
) -> str | None:
    """Return the first month before this one that has something in it and is not closed."""
    for after, before in _open_spans(month, closed):
        queries = [
            select(func.min(column)).where(column > after, column < before)
            for column in (EVENTS.month, ADJUSTMENTS.c.month)
        ]
        months: list[str | None] = [await connection.scalar(query) for query in queries]
        if found := list(filter(None, months)):
            return min(found)
    return None


def _open_spans(month: str, closed: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield bounds between which no month is closed, so that no event of a closed one is read."""
    after = ""
    for one in sorted(closed):
        if one < month:
            if not after or next_month(after) != one:
                yield after, one
            after = one
    yield after, month


async def adjustments_of(
    connection: AsyncConnection, month: str, account: str | None = None
) -> list[Any]:
    """Return a month's adjustments, oldest first."""
    query = (
        select(ADJUSTMENTS)
        .where(ADJUSTMENTS.c.month == month)
        .order_by(ADJUSTMENTS.c.created_at, ADJUSTMENTS.c.id)
    )
    if account is not None:
        query = query.where(ADJUSTMENTS.c.account_id == account)
    return list(await connection.execute(query))
