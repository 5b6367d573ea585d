"""All budgets with what has been spent of each one in a month."""

from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncConnection

from billing.budgets.budgets import Budget, load_budgets
from billing.budgets.spending import spending_since
from billing.money import ZERO, total
from jobs.store.budget_reservations import BudgetMonth


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """A budget and the amount spent of it in a month, in the budget's currency."""

    budget: Budget
    month: str
    spent: Decimal

    @property
    def left(self) -> Decimal:
        """Return what is left, without regard to jobs that have not ended; at least 0."""
        return max(ZERO, total(self.budget.allowance(self.month), -self.spent))


async def budget_statuses(
    connection: AsyncConnection, month: str, accounts: Collection[str] | None = None
) -> list[BudgetStatus]:
    """Return budgets with their spending.

    Args:
        connection: The database.
        month: A UTC month, such as `2026-10`.
        accounts: Whose budgets; None for all.
    """
    budgets = await load_budgets(connection, accounts, month)
    sums = await spending_since(connection, {one.account for one in budgets}, month)
    spent = {(one.bucket, one.scope): one.amount for one in sums}
    return [
        BudgetStatus(
            one, month, spent.get((BudgetMonth(one.account, month, one.currency), one.scope), ZERO)
        )
        for one in budgets
    ]
