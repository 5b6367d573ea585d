"""Warnings that a budget comes to its end: noticed by the ledger, delivered by webhook.

Signed as Standard Webhooks 1.0 says (https://www.standardwebhooks.com). Invariant: each budget
warns once per percentage and month; a warning is tried until it is taken or its attempts are used
up, and then says why.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx2
import orjson
import structlog
from sqlalchemy import select, update
from standardwebhooks.webhooks import Webhook

from billing.budgets import Budget
from billing.bulk import insert_missing
from billing.database import Database
from billing.errors import DatabaseUnavailable
from billing.money import plain
from billing.months import month_of
from billing.spending import Sum
from billing.tables.base import now, table_of
from billing.tables.budgets import Budget as BudgetRow
from billing.tables.budgets import BudgetWarning
from jobs import metrics
from jobs.holds import Bucket

log = structlog.get_logger()

EVENT = "budget.threshold"
LOOK_SECONDS = 1.0
ANSWER_SECONDS = 10.0
AT_ONCE = 20

#: When a delivery that failed is tried again, as Standard Webhooks proposes.
PAUSES = (
    *(timedelta(seconds=5), timedelta(minutes=5), timedelta(minutes=30), timedelta(hours=2)),
    *(timedelta(hours=5), timedelta(hours=10), timedelta(hours=14), timedelta(hours=20)),
)
GONE = 410


async def warn(database: Database, budgets: Sequence[Budget], sums: Sequence[Sum]) -> None:
    """Note every percentage that was reached this month, once.

    Raises:
        DatabaseUnavailable: come back later.
    """
    instant = now()
    month = month_of(instant)
    rows = [
        {
            "budget_id": budget.id,
            "month": one.bucket.month,
            "percent": percent,
            "spent": one.amount,
            "at": instant,
            "attempts": 0,
            "due_at": instant if budget.webhook else None,
            "failure": "",
        }
        for budget in budgets
        for one in sums
        if _covers(budget, one, month)
        for percent in budget.warn_percents
        if one.amount * 100 >= budget.amount * percent
    ]
    if not rows:
        return
    async with database.write() as connection:
        new = await insert_missing(connection, table_of(BudgetWarning), rows)
    if new:
        metrics.budget_warnings.inc(new)
        log.warning("budgets_near_their_end", warnings=new)


def _covers(budget: Budget, one: Sum, month: str) -> bool:
    bucket = Bucket(budget.account, month, budget.currency)
    return (one.bucket, one.scope) == (bucket, budget.scope)


async def deliver_warnings(database: Database) -> None:
    """Deliver what is due, until cancelled."""
    async with httpx2.AsyncClient(timeout=ANSWER_SECONDS, follow_redirects=False) as client:
        while True:
            try:
                async with asyncio.TaskGroup() as group:
                    for warning in await _due(database):
                        group.create_task(_deliver(database, client, warning))
            except* DatabaseUnavailable:
                log.warning("budget_warnings_wait_for_the_database")
            await asyncio.sleep(LOOK_SECONDS)


async def _due(database: Database) -> Sequence[Any]:
    """Return what is due. Two processes may deliver the same; its id tells the receiver."""
    warning, budget = table_of(BudgetWarning), table_of(BudgetRow)
    columns = (budget.c[name] for name in ("account_id", "key_id", "amount", "currency", "hard"))
    query = (
        select(warning, *columns, budget.c.webhook, budget.c.webhook_secret)
        .join(budget, budget.c.id == warning.c.budget_id)
        .where(warning.c.due_at <= now(), budget.c.webhook.is_not(None))
        .order_by(warning.c.due_at)
        .limit(AT_ONCE)
    )
    async with database.read() as connection:
        return (await connection.execute(query)).all()


async def _deliver(database: Database, client: httpx2.AsyncClient, warning: Any) -> None:
    failure = await _post(client, warning)
    instant = now()
    attempts = warning.attempts + 1
    values: dict[str, Any] = {"attempts": attempts, "failure": failure or ""}
    if failure is None:
        values |= {"delivered_at": instant, "due_at": None}
    elif failure == str(GONE) or attempts > len(PAUSES):
        values |= {"due_at": None}
        log.error("budget_warning_given_up", id=warning.id, failure=failure)
    else:
        values |= {"due_at": instant + PAUSES[attempts - 1]}
        log.warning("budget_warning_not_delivered", id=warning.id, failure=failure)
    table = table_of(BudgetWarning)
    async with database.write() as connection:
        await connection.execute(update(table).where(table.c.id == warning.id).values(values))


async def _post(client: httpx2.AsyncClient, warning: Any) -> str | None:
    """Send one warning; returns what went wrong, or None."""
    name, instant = f"budget_warning_{warning.id}", now()
    body = orjson.dumps(payload(warning)).decode()
    headers = {
        "Content-Type": "application/json",
        "webhook-id": name,
        "webhook-timestamp": str(int(instant.timestamp())),
    }
    if warning.webhook_secret:
        sign = Webhook(warning.webhook_secret).sign
        headers["webhook-signature"] = sign(name, instant, body)
    try:
        # The client's own timeout is one for each read, and a body is not even looked at.
        async with (
            asyncio.timeout(ANSWER_SECONDS),
            client.stream("POST", warning.webhook, content=body, headers=headers) as answer,
        ):
            return None if answer.is_success else str(answer.status_code)
    except Exception as error:  # noqa: BLE001 - whatever a receiver does, it is its warning's fault
        return type(error).__name__


def payload(warning: Any) -> dict[str, Any]:
    """Return what a receiver is told."""
    spent: Decimal = warning.spent
    return {
        "type": EVENT,
        "timestamp": warning.at.isoformat(),
        "data": {
            "account": warning.account_id,
            "key_id": warning.key_id or None,
            "month": warning.month,
            "percent": warning.percent,
            "spent": plain(spent),
            "budget": plain(warning.amount),
            "currency": warning.currency,
            "hard": warning.hard,
        },
    }
