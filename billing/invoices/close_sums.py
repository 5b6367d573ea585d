"""A month's ledger summed up by the database: one row per account and set of invoice lines.

Invariant: usage events are never read one by one, so a close costs what its sums cost.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from sqlalchemy import case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.months import next_month
from billing.sums import exact_sum
from core.db.tables.base import table_of
from core.db.tables.invoices import AdjustmentRow
from core.db.tables.usage import UsageEventRow

EVENTS = table_of(UsageEventRow).c

#: The columns of charged tokens and amounts, by kind of token.
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


class _MonthSumRow(NamedTuple):
    """One row of `sum_month`'s query: SHARED, then three sums for each of KINDS."""

    account_id: str
    currency: str
    model: str
    service_tier: str
    price_version_id: str
    multiplier: Decimal
    late: bool
    input_jobs: int
    input_tokens: int
    input_amount: Decimal
    cached_input_jobs: int
    cached_input_tokens: int
    cached_input_amount: Decimal
    output_jobs: int
    output_tokens: int
    output_amount: Decimal


class Adjustment(NamedTuple):
    """An adjustment as an invoice needs it; `amount` is in units of the currency."""

    id: str
    account_id: str
    currency: str
    amount: Decimal
    reason: str
    job_id: str | None


@dataclass(frozen=True, slots=True)
class KindSum:
    """The sums of a group for one kind of token: jobs with any, tokens, and the exact amount."""

    jobs: int
    tokens: int
    amount: Decimal


@dataclass(frozen=True, slots=True)
class UsageGroup:
    """Usage events that share one invoice line per kind of token."""

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
    """Sum up a month's priced usage."""
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
    return [_group(_MonthSumRow(*row)) for row in await connection.execute(query)]


def _group(row: _MonthSumRow) -> UsageGroup:
    """Return the group of a row; PostgreSQL's sums of integers come as Decimal."""
    return UsageGroup(
        account_id=row.account_id,
        currency=row.currency,
        model=row.model,
        service_tier=row.service_tier,
        price_version_id=row.price_version_id,
        multiplier=row.multiplier,
        late=row.late,
        sums={
            "input": KindSum(int(row.input_jobs), int(row.input_tokens), row.input_amount),
            "cached_input": KindSum(
                int(row.cached_input_jobs), int(row.cached_input_tokens), row.cached_input_amount
            ),
            "output": KindSum(int(row.output_jobs), int(row.output_tokens), row.output_amount),
        },
    )


async def unpriced_models(connection: AsyncConnection, month: str) -> dict[str, int]:
    """Return how many events per model should be charged but have no price yet."""
    query = (
        select(UsageEventRow.model, func.count())
        .where(EVENTS.month == month, EVENTS.price_version_id.is_(None), CHARGED)
        .group_by(UsageEventRow.model)
    )
    return dict(sorted((model, count) for model, count in await connection.execute(query)))


async def earliest_open(
    connection: AsyncConnection, month: str, closed: Collection[str]
) -> str | None:
    """Return the first open month before this one that has usage or adjustments."""
    for after, before in _open_spans(month, closed):
        queries = [
            select(func.min(column)).where(column > after, column < before)
            for column in (UsageEventRow.month, AdjustmentRow.month)
        ]
        first = [await connection.scalar(query) for query in queries]
        if months := [month for month in first if month is not None]:
            return min(months)
    return None


def _open_spans(month: str, closed: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield spans between closed months, so that no event of a closed month is read."""
    after = ""
    for earlier in sorted(closed):
        if earlier < month:
            if not after or next_month(after) != earlier:
                yield after, earlier
            after = earlier
    yield after, month


async def adjustments_of(
    connection: AsyncConnection, month: str, account: str | None = None
) -> list[Adjustment]:
    """Return a month's adjustments, oldest first."""
    row = AdjustmentRow
    query = (
        select(row.id, row.account_id, row.currency, row.amount, row.reason, row.job_id)
        .where(row.month == month)
        .order_by(row.created_at, row.id)
    )
    if account is not None:
        query = query.where(row.account_id == account)
    return [Adjustment(*found) for found in await connection.execute(query)]
