"""What accounts have spent per month; the ledger's triggers maintain it.

Invariant: a read after a commit includes everything committed; sums only rise. Each job's cost is
rounded up to nanos (9 decimals), so that a month's sum always fits its column.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.money import ZERO, total
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
    """Return what accounts have spent since a month, for each key and for the whole account."""
    row = SpendingRow
    query = select(row.account_id, row.month, row.currency, row.key_id, row.amount).where(
        row.account_id.in_(accounts), row.month >= month
    )
    return list(_sums(await connection.execute(query)))


async def spending_in(connection: AsyncConnection, bucket: BudgetMonth) -> list[SpentSum]:
    """Return what was spent in one bucket; the account's own sum is there even if it is zero."""
    sums = await spending_since(connection, [bucket.account], bucket.month)
    own = [one for one in sums if one.bucket == bucket]
    return own or [SpentSum(bucket, ACCOUNT, ZERO)]


def _sums(rows: Iterable[tuple[str, str, str, str, Decimal]]) -> Iterator[SpentSum]:
    """Yield the sum of each key, then that of each account."""
    by_account: dict[BudgetMonth, Decimal] = {}
    for account, month, currency, key_id, amount in rows:
        bucket = BudgetMonth(account, month, currency)
        by_account[bucket] = total(by_account.get(bucket, ZERO), amount)
        if key_id:
            yield SpentSum(bucket, key_id, amount)
    for bucket, amount in by_account.items():
        yield SpentSum(bucket, ACCOUNT, amount)
