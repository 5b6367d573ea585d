"""Sets and removes budgets.

Invariant: a budget below what was spent warns at once, in the transaction that sets it.
"""

from dataclasses import replace
from decimal import Decimal
from typing import Any

import httpx2
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from accounts.account_rows import account_exists
from accounts.errors import AccountNotFound
from billing.budgets.budgets import Budget, load_budgets
from billing.budgets.spending import spending_since
from billing.budgets.warnings import write_warnings
from billing.currencies import wrong_currency
from billing.errors import InvalidBudget
from billing.money import plain
from billing.months import month_of
from billing.pricing.prices import load_prices
from core.db.audit import audit
from core.db.database import Database
from core.db.tables.accounts import ApiKeyRow
from core.db.tables.base import now, table_of
from core.db.tables.budgets import BudgetRow, BudgetWarningRow
from core.db.tables.types import MICROS
from core.ids import new_id

LARGEST = Decimal(1_000_000_000)
MAX_PERCENT = 1000


async def set_budget(database: Database, budget: Budget, actor: str = "") -> Budget:
    """Set the budget of an account or key; it replaces an earlier one.

    Warnings that were sent stay, as far as their percentage is still reached with the new amount;
    a percentage that is reached already is warned of at once.

    Args:
        database: where it is stored.
        budget: `amount` in currency units per UTC month, with at most 6 decimals.
        actor: who sets it, for the audit log.

    Returns:
        The budget as stored, with its id.

    Raises:
        AccountNotFound: there is no such account; a typing error must not make one.
        InvalidBudget: a value is out of range, the account has no such key, or no model has a price
            in the currency although some have prices.
        DatabaseUnavailable: nothing was stored; try again later.
    """
    _check(budget)
    table = table_of(BudgetRow)
    async with database.write() as connection:
        if not await account_exists(connection, budget.account):
            raise AccountNotFound(f"account: there is no account {budget.account!r}")
        budget = replace(budget, key_id=await _origin(connection, budget.account, budget.key_id))
        await _check_covers(connection, budget.currency)
        own = (table.c.account_id == budget.account, table.c.key_id == budget.key_id)
        known = await connection.scalar(select(table.c.id).where(*own))
        budget = replace(budget, id=known or new_id("budget"))
        if known is None:
            await connection.execute(insert(BudgetRow), [_row(budget)])
        else:
            row = _row(budget)
            del row["created_at"]
            await connection.execute(update(table).where(*own).values(row))
            await _delete_untrue_warnings(connection, budget)
        await audit(
            connection,
            *(actor, "budget_set", budget.id),
            account=budget.account,
            key=budget.key_id,
            amount=plain(budget.amount),
            currency=budget.currency,
            hard=budget.hard,
        )
        sums = await spending_since(connection, [budget.account], month_of(now()))
        stored = await load_budgets(connection, [budget.account])
        await write_warnings(connection, [one for one in stored if one.id == budget.id], sums)
    return budget


async def models_not_covered(database: Database, currency: str) -> list[str]:
    """Return the models whose newest price is in another currency, which no such budget covers."""
    return [
        model for model, other in (await _newest_currencies(database)).items() if other != currency
    ]


async def _check_covers(connection: AsyncConnection, currency: str) -> None:
    """Refuse a currency that no model has a price in: such a budget would protect nothing."""
    priced = {price.currency for price in (await load_prices(connection)).versions()}
    if priced and currency not in priced:
        raise InvalidBudget(
            f"currency: no model has a price in {currency}, so this budget would cover nothing;"
            f" there are prices in {', '.join(sorted(priced))}",
            param="currency",
        )


async def _newest_currencies(database: Database) -> dict[str, str]:
    async with database.read() as connection:
        prices = (await load_prices(connection)).versions()
    return {price.model: price.currency for price in prices}


async def _origin(connection: AsyncConnection, account: str, key_id: str) -> str:
    """Return the first key of the rotations that made a key: the budget is for all of them."""
    if not key_id:
        return ""
    key = ApiKeyRow
    query = select(key.id, key.origin_id).where(key.id == key_id, key.account_id == account)
    found = (await connection.execute(query)).one_or_none()
    if found is None:
        raise InvalidBudget(f"key: account {account!r} has no key {key_id!r}", param="key")
    return str(found.origin_id or found.id)


async def _delete_untrue_warnings(connection: AsyncConnection, budget: Budget) -> None:
    """Delete warnings whose percentage is not reached any more, so that they can be sent again."""
    warning = BudgetWarningRow
    query = select(warning.id, warning.spent, warning.percent).where(warning.budget_id == budget.id)
    untrue = [
        row_id
        for row_id, spent, percent in await connection.execute(query)
        if spent * 100 < budget.amount * percent
    ]
    await connection.execute(delete(warning).where(warning.id.in_(untrue)))


async def remove_budget(
    database: Database, account: str, key_id: str = "", actor: str = ""
) -> bool:
    """Remove a budget; returns False if there was none.

    Raises:
        InvalidBudget: the account has no such key.
    """
    table = table_of(BudgetRow)
    async with database.write() as connection:
        key_id = await _origin(connection, account, key_id)
        gone = await connection.execute(
            delete(table).where(table.c.account_id == account, table.c.key_id == key_id)
        )
        if gone.rowcount:
            await audit(connection, actor, "budget_removed", account, key=key_id)
    return bool(gone.rowcount)


def _row(budget: Budget) -> dict[str, Any]:
    instant = now()
    return {
        "id": budget.id,
        "account_id": budget.account,
        "key_id": budget.key_id,
        "amount": budget.amount,
        "currency": budget.currency,
        "hard": budget.hard,
        "when_unknown": budget.when_unknown,
        "warn_percents": sorted(set(budget.warn_percents)),
        "webhook": budget.webhook,
        "webhook_secret": budget.webhook_secret,
        "created_at": instant,
        "changed_at": instant,
    }


def _check(budget: Budget) -> None:
    amount, currency = budget.amount, budget.currency
    if not amount.is_finite() or not 0 <= amount <= LARGEST:
        raise InvalidBudget(f"amount: expected a number from 0 to {LARGEST}", param="amount")
    if amount != round(amount, MICROS):
        raise InvalidBudget(f"amount: expected at most {MICROS} decimals", param="amount")
    if problem := wrong_currency(currency):
        raise InvalidBudget(problem, param="currency")
    if not all(0 < percent <= MAX_PERCENT for percent in budget.warn_percents):
        raise InvalidBudget(
            f"warn_percents: expected numbers from 1 to {MAX_PERCENT}", param="warn_percents"
        )
    if budget.webhook is not None and not _is_url(budget.webhook):
        raise InvalidBudget("webhook: expected an http or https URL", param="webhook")


def _is_url(text: str) -> bool:
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL:
        return False
    return url.scheme in ("http", "https") and bool(url.host)
