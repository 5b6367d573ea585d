"""All budgets with what has been spent of each one in a month."""

from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy.ext.asyncio import AsyncConnection

from billing.budgets.budgets import Budget, load_budgets
from billing.budgets.spending import spending_since
from billing.money import ZERO
from jobs.store.budget_reservations import BudgetMonth


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """A budget and the amount spent of it in a month, in the budget's currency."""

    budget: Budget
    spent: Decimal


async def budget_statuses(connection: AsyncConnection, month: str) -> list[BudgetStatus]:
    """Return every budget with its spending.

    Args:
        connection: The database.
        month: A UTC month, such as `2026-10`.
    """
    budgets = await load_budgets(connection, month=month)
    sums = await spending_since(connection, {one.account for one in budgets}, month)
    spent = {(one.bucket, one.scope): one.amount for one in sums}
    return [
        BudgetStatus(
            one, spent.get((BudgetMonth(one.account, month, one.currency), one.scope), ZERO)
        )
        for one in budgets
    ]
