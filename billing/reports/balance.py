"""What an account owes that is on no invoice yet: usage and adjustments of months that are open.

Invariant: usage counts as budgets count it, each job's cost rounded up to billionths; an invoice
rounds its lines once, so it can differ by that much.
"""

from collections import defaultdict
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.money import ZERO, total
from core.db.tables.base import table_of
from core.db.tables.budgets import SpendingRow
from core.db.tables.invoices import AdjustmentRow, ClosedMonthRow


@dataclass(frozen=True, slots=True)
class OpenBalance:
    """The amounts of one open month in one currency."""

    month: str
    currency: str
    usage: Decimal = ZERO
    adjustments: Decimal = ZERO

    @property
    def total(self) -> Decimal:
        """Return what the month's invoice would be over."""
        return total(self.usage, self.adjustments)


async def open_balances(connection: AsyncConnection, account: str) -> list[OpenBalance]:
    """Return an account's amounts of open months, by month and currency.

    Args:
        connection: the database.
        account: the account's id.
    """
    closed = select(ClosedMonthRow.month)
    sums: dict[tuple[str, str], list[Decimal]] = defaultdict(lambda: [ZERO, ZERO])
    for place, row in enumerate((table_of(SpendingRow).c, table_of(AdjustmentRow).c)):
        query = select(row.month, row.currency, row.amount).where(
            row.account_id == account, row.month.not_in(closed)
        )
        for month, currency, amount in await connection.execute(query):
            both = sums[month, currency]
            both[place] = total(both[place], amount)
    return [OpenBalance(*of, *both) for of, both in sorted(sums.items())]
