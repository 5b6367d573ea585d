"""Warnings that a budget comes to its end, noticed by the ledger and told by webhook.

Invariant: each budget warns once per percentage and month; the warning and the event that tells it
are written in one transaction.
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
from core.db.engine import Database
from core.db.tables.base import now, table_of
from core.db.tables.budgets import BudgetWarningRow
from jobs.store.budget_reservations import BudgetMonth
from webhooks.events import NewEvent, Receiver, add_events, listeners

log = structlog.get_logger()

EVENT = "budget.threshold"

WARNINGS = table_of(BudgetWarningRow)

#: A budget, a percentage it reached, and what was spent.
Reached = tuple[Budget, int, Decimal]


async def warn(database: Database, budgets: Sequence[Budget], sums: Sequence[SpentSum]) -> None:
    """Note and tell every percentage that was reached this month, once.

    Raises:
        DatabaseUnavailable: come back later.
    """
    instant = now()
    month = month_of(instant)
    reached = [
        (budget, percent, one.amount)
        for budget in budgets
        for one in sums
        if _covers(budget, one, month)
        for percent in budget.warn_percents
        if one.amount * 100 >= budget.amount * percent
    ]
    if not reached:
        return
    async with database.write() as connection:
        said = await _said(connection, {budget.id for budget, _, _ in reached}, month)
        fresh = [one for one in reached if (one[0].id, one[1]) not in said]
        rows = [_row(*one, month, instant) for one in fresh]
        new = await insert_missing(connection, WARNINGS, rows)
        known = await listeners(connection, {budget.account for budget, _, _ in fresh})
        await add_events(connection, [_event(*one, month, instant) for one in fresh], known)
    if new:
        metrics.budget_warnings.inc(new)
        log.warning("budgets_near_their_end", warnings=new)


def _covers(budget: Budget, one: SpentSum, month: str) -> bool:
    bucket = BudgetMonth(budget.account, month, budget.currency)
    return (one.bucket, one.scope) == (bucket, budget.scope)


async def _said(connection: AsyncConnection, budgets: set[str], month: str) -> set[tuple[str, int]]:
    """Return what was said; another ledger process may say the same now, under the same id."""
    query = select(WARNINGS.c.budget_id, WARNINGS.c.percent).where(
        WARNINGS.c.budget_id.in_(budgets), WARNINGS.c.month == month
    )
    return {(row.budget_id, row.percent) for row in await connection.execute(query)}


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
    """Return what receivers are told; a changed budget that is reached again is another event."""
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
