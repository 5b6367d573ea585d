"""Budgets of accounts that a test needs no more of."""

from accounts.account_rows import ensure_account
from billing.budgets.budget_changes import set_budget
from billing.budgets.budgets import Budget
from core.db.database import Database


async def give_budget(database: Database, budget: Budget) -> Budget:
    """Set a budget, for an account that is made if it is missing."""
    await ensure_account(database, budget.account)
    return await set_budget(database, budget, "test")
