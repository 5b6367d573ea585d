"""What accounts have spent in a month, as the ledger's triggers keep it.

Invariant: read after a commit, it holds all that was committed; it only rises. Each job's cost is
rounded up to billionths, so that no sum of a month is ever too large to be exact.
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
    """What one scope (a key, or `ACCOUNT`) has spent in a bucket."""

    bucket: BudgetMonth
    scope: str
    amount: Decimal

    @property
    def spent(self) -> SpentAmount:
        """Return it as budgets are checked with, rounded up."""
        return SpentAmount(self.bucket, self.scope, to_nanos(self.amount, up=True))


async def spending_since(
    connection: AsyncConnection, accounts: Collection[str], month: str
) -> list[SpentSum]:
    """Return the sums of accounts from a month on, by key and in all."""
    row = SpendingRow
    query = select(row.account_id, row.month, row.currency, row.key_id, row.amount).where(
        row.account_id.in_(accounts), row.month >= month
    )
    return list(_sums(await connection.execute(query)))


async def spending_in(connection: AsyncConnection, bucket: BudgetMonth) -> list[SpentSum]:
    """Return the sums of one bucket; that of the account even if it is zero."""
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
