"""Warnings that a budget is nearly used up, recorded by the ledger and sent as webhooks.

Invariant: a budget warns once per percentage and month. The warning and its event are written in
one transaction.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.budgets.budgets import Budget
from billing.budgets.spending import SpentSum
from billing.money import plain
from billing.months import month_of
from core import metrics
from core.db.bulk_insert import insert_missing
from core.db.database import Database
from core.db.tables.base import now, table_of
from core.db.tables.budgets import BudgetWarningRow
from jobs.store.budget_reservations import BudgetMonth
from webhooks.events import NewEvent, Receiver, add_events, listeners

log = structlog.get_logger()

EVENT = "budget.threshold"


async def record_warnings(
    database: Database, budgets: Sequence[Budget], sums: Sequence[SpentSum]
) -> None:
    """Record each percentage that was reached this month, once, with its webhook event.

    Args:
        database: where warnings and events are stored.
        budgets: the budgets of the accounts in question.
        sums: what these accounts have spent.

    Raises:
        DatabaseUnavailable: nothing was recorded; try again later.
    """
    if _reached(budgets, sums, month_of(now())):
        async with database.write() as connection:
            await write_warnings(connection, budgets, sums)


async def write_warnings(
    connection: AsyncConnection, budgets: Sequence[Budget], sums: Sequence[SpentSum]
) -> None:
    """Record what was reached, as `record_warnings`, in the caller's transaction."""
    instant = now()
    month = month_of(instant)
    reached = _reached(budgets, sums, month)
    if not reached:
        return
    warned = await _already_warned(connection, {budget.id for budget, _, _ in reached}, month)
    due = [one for one in reached if (one[0].id, one[1]) not in warned]
    rows = [_row(*one, month, instant) for one in due]
    new = await insert_missing(connection, table_of(BudgetWarningRow), rows)
    known = await listeners(connection, {budget.account for budget, _, _ in due})
    await add_events(connection, [_event(*one, month, instant) for one in due], known)
    if new:
        metrics.budget_warnings.inc(new)
        log.warning("budgets_near_their_end", warnings=new)


def _reached(
    budgets: Sequence[Budget], sums: Sequence[SpentSum], month: str
) -> list[tuple[Budget, int, Decimal]]:
    """Return each budget and percentage that was reached, with the amount spent."""
    return [
        (budget, percent, spent.amount)
        for budget in budgets
        for spent in sums
        if _covers(budget, spent, month)
        for percent in budget.warn_percents
        if spent.amount * 100 >= budget.allowance(month) * percent
    ]


def _covers(budget: Budget, spent: SpentSum, month: str) -> bool:
    bucket = BudgetMonth(budget.account, month, budget.currency)
    return (spent.bucket, spent.scope) == (bucket, budget.scope)


async def _already_warned(
    connection: AsyncConnection, budgets: set[str], month: str
) -> set[tuple[str, int]]:
    """Return the budgets and percentages that were warned of this month.

    Another ledger process may warn at the same time: its event has the same id, so it counts once.
    """
    warning = BudgetWarningRow
    query = select(warning.budget_id, warning.percent).where(
        warning.budget_id.in_(budgets), warning.month == month
    )
    return {(budget_id, percent) for budget_id, percent in await connection.execute(query)}


def _row(
    budget: Budget, percent: int, spent: Decimal, month: str, instant: datetime
) -> dict[str, Any]:
    return {
        "budget_id": budget.id,
        "month": month,
        "percent": percent,
        "spent": spent,
        "at": instant,
    }


def _event(budget: Budget, percent: int, spent: Decimal, month: str, instant: datetime) -> NewEvent:
    """Return the event of a warning. Its id covers the amount: a changed budget warns again."""
    name = f"{budget.id} {month} {percent} {plain(budget.amount)}"
    return NewEvent(
        account=budget.account,
        type=EVENT,
        data={
            "account": budget.account,
            "key_id": budget.key_id or None,
            "month": month,
            "percent": percent,
            "spent": plain(spent),
            "budget": plain(budget.amount),
            "currency": budget.currency,
            "hard": budget.hard,
        },
        id=f"evt_{hashlib.sha256(name.encode()).hexdigest()[:32]}",
        at=instant,
        own=Receiver(budget.id, budget.webhook) if budget.webhook else None,
    )
