"""What accounts have spent per month; the ledger's triggers maintain it.

Invariant: a read after a commit includes everything committed; sums only rise. Each job's cost is
rounded up to nanos (9 decimals), so that a month's sum always fits its column.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.money import ZERO, total
from core.db.tables.accounts import ApiKeyRow
from core.db.tables.budgets import SpendingRow
from jobs.store.budget_reservations import ACCOUNT, BudgetMonth, SpentAmount, to_nanos


@dataclass(frozen=True, slots=True)
class SpentSum:
    """What one scope (a key, or ACCOUNT) has spent in a month, in the bucket's currency."""

    bucket: BudgetMonth
    scope: str
    amount: Decimal

    @property
    def spent(self) -> SpentAmount:
        """Return it in nanos, rounded up, as reservations compare it."""
        return SpentAmount(self.bucket, self.scope, to_nanos(self.amount, up=True))


async def spending_since(
    connection: AsyncConnection, accounts: Collection[str], month: str
) -> list[SpentSum]:
    """Return what accounts have spent since a month, for each key and for the whole account.

    Keys that rotations made count as the first one.
    """
    row = SpendingRow
    origin = func.coalesce(ApiKeyRow.origin_id, row.key_id)
    query = (
        select(row.account_id, row.month, row.currency, origin, row.amount)
        .outerjoin_from(row, ApiKeyRow, ApiKeyRow.id == row.key_id)
        .where(row.account_id.in_(accounts), row.month >= month)
    )
    return list(_sums(await connection.execute(query)))


async def spending_in(connection: AsyncConnection, bucket: BudgetMonth) -> list[SpentSum]:
    """Return what was spent in one bucket; the account's own sum is there even if it is zero."""
    sums = await spending_since(connection, [bucket.account], bucket.month)
    own = [one for one in sums if one.bucket == bucket]
    return own or [SpentSum(bucket, ACCOUNT, ZERO)]


def _sums(rows: Iterable[tuple[str, str, str, str, Decimal]]) -> Iterator[SpentSum]:
    """Yield the sum of each key and of each account."""
    sums: dict[tuple[BudgetMonth, str], Decimal] = {}
    for account, month, currency, key_id, amount in rows:
        bucket = BudgetMonth(account, month, currency)
        for scope in (key_id, ACCOUNT) if key_id else (ACCOUNT,):
            sums[bucket, scope] = total(sums.get((bucket, scope), ZERO), amount)
    for (bucket, scope), amount in sums.items():
        yield SpentSum(bucket, scope, amount)
