"""What is due, who has taken it, and what is given up: the deliveries in SQL.

Invariant: a delivery that is due is taken by one process at a time, and again by anybody once
`taken_until` has passed.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from core.db.engine import Database
from core.db.tables.base import now, table_of
from core.db.tables.budgets import BudgetRow
from core.db.tables.webhooks import (
    WebhookAttemptRow,
    WebhookDeliveryRow,
    WebhookEndpointRow,
    WebhookEventRow,
)
from webhooks.account_secrets import account_keys
from webhooks.events import host_of
from webhooks.signing import valid_keys
from webhooks.tickets import DeliveryTicket

DELIVERIES = table_of(WebhookDeliveryRow)
EVENTS = table_of(WebhookEventRow)
ENDPOINTS = table_of(WebhookEndpointRow)
ATTEMPTS = table_of(WebhookAttemptRow)
BUDGETS = table_of(BudgetRow)

#: Anything else was never an id of ours, and SQL need not be asked.
ID = re.compile(r"[a-z]+_[0-9a-z]{1,48}")

#: How long nobody makes another ticket for a delivery that has one.
TICKET_SECONDS = 30.0

#: Tickets made at one look, and of them those of one account to one host.
TICKETS = 500
TICKETS_PER_LANE = 100


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery that this process has for a while; `keys` sign it."""

    id: str
    event_id: str
    account: str
    target: str
    url: str
    payload: str
    attempts: int
    keys: Sequence[str]


def _free(column: ColumnElement[Any], instant: datetime) -> ColumnElement[bool]:
    return or_(column.is_(None), column < instant)


async def find_due(database: Database) -> Sequence[DeliveryTicket]:
    """Return what is due and has no ticket, each receiver's oldest first; marks it as having one.

    An account's thousand deliveries to one host do not keep others from being found.
    """
    instant = now()
    lane = func.row_number().over(
        partition_by=(DELIVERIES.c.account_id, DELIVERIES.c.host), order_by=DELIVERIES.c.due_at
    )
    due = (
        select(
            *(DELIVERIES.c[name] for name in ("id", "account_id", "host", "due_at")),
            lane.label("place"),
        )
        .where(
            DELIVERIES.c.due_at <= instant,
            _free(DELIVERIES.c.taken_until, instant),
            _free(DELIVERIES.c.ticket_until, instant),
        )
        .subquery()
    )
    query = (
        select(due.c.id, due.c.account_id, due.c.host)
        .where(due.c.place <= TICKETS_PER_LANE)
        .order_by(due.c.place, due.c.due_at)
        .limit(TICKETS)
    )
    async with database.read() as connection:
        found = [DeliveryTicket(*row) for row in await connection.execute(query)]
    if found:
        until = instant + timedelta(seconds=TICKET_SECONDS)
        mark = update(DELIVERIES).where(DELIVERIES.c.id.in_([one.id for one in found]))
        async with database.write() as connection:
            await connection.execute(mark.values(ticket_until=until))
    return found


async def backlog(database: Database) -> tuple[int, float]:
    """Return how many deliveries are due, and for how many seconds the oldest has been."""
    instant = now()
    query = select(func.count(), func.min(DELIVERIES.c.due_at)).where(
        DELIVERIES.c.due_at <= instant
    )
    async with database.read() as connection:
        count, oldest = (await connection.execute(query)).one()
    return count, (instant - oldest).total_seconds() if oldest else 0.0


async def take(
    database: Database, ids: Sequence[str], seconds: float
) -> Sequence[ClaimedDelivery | None]:
    """Take deliveries for so long; None for one that is not due, or another's at the moment.

    One whose endpoint is gone or disabled is given up here.
    """
    instant = now()
    change = (
        update(DELIVERIES)
        .where(
            DELIVERIES.c.id.in_(ids),
            DELIVERIES.c.due_at <= instant,
            _free(DELIVERIES.c.taken_until, instant),
        )
        .values(taken_until=instant + timedelta(seconds=seconds))
        .returning(DELIVERIES.c.id)
    )
    async with database.write() as connection:
        ours = list(await connection.scalars(change))
        rows = await _details(connection, ours)
        keys = await account_keys(connection, {row.account_id for row in rows}, instant)
        taken = {row.id: _taken(row, keys[row.account_id], instant) for row in rows}
        gone = [row.id for row in rows if taken[row.id] is None]
        await _give_up(
            connection, DELIVERIES.c.id.in_(gone), "the receiver was removed or disabled"
        )
    return [taken.get(one) for one in ids]


async def _details(connection: AsyncConnection, ids: Collection[str]) -> Sequence[Any]:
    endpoint = [
        ENDPOINTS.c[name].label(f"endpoint_{name}")
        for name in ("url", "secret", "previous_secret", "previous_until", "disabled_at")
    ]
    query = (
        select(DELIVERIES, EVENTS.c.payload, *endpoint, BUDGETS.c.id.label("budget_id"))
        .add_columns(BUDGETS.c.webhook_secret)
        .join(EVENTS, EVENTS.c.id == DELIVERIES.c.event_id)
        .outerjoin(ENDPOINTS, ENDPOINTS.c.id == DELIVERIES.c.target)
        .outerjoin(BUDGETS, BUDGETS.c.id == DELIVERIES.c.target)
        .where(DELIVERIES.c.id.in_(ids))
    )
    return (await connection.execute(query)).all()


def _taken(row: Any, account: Sequence[str], instant: datetime) -> ClaimedDelivery | None:
    """Return a delivery with the URL and secrets of its receiver; None if that is not there."""
    url, keys = row.url, account
    if row.endpoint_url is not None:
        if row.endpoint_disabled_at is not None:
            return None
        url = row.endpoint_url
        keys = valid_keys(
            row.endpoint_secret,
            row.endpoint_previous_secret,
            row.endpoint_previous_until,
            instant,
        )
    elif row.budget_id is not None:
        keys = [row.webhook_secret] if row.webhook_secret else account
    elif row.target:
        return None
    return ClaimedDelivery(
        *(row.id, row.event_id, row.account_id, row.target, url, row.payload, row.attempts),
        keys=keys,
    )


async def disable(connection: AsyncConnection, endpoint: str, why: str) -> None:
    """Send nothing more to an endpoint, and give up what was on its way there."""
    change = update(ENDPOINTS).where(ENDPOINTS.c.id == endpoint, ENDPOINTS.c.disabled_at.is_(None))
    await connection.execute(change.values(disabled_at=now(), disabled_why=why))
    await stop(connection, endpoint, "the endpoint was disabled")


async def stop(connection: AsyncConnection, target: str, why: str) -> None:
    """Give up what is on its way to a receiver."""
    await _give_up(connection, DELIVERIES.c.target == target, why)


async def redirect(connection: AsyncConnection, target: str, url: str) -> None:
    """Let what is on its way to a receiver go to another URL."""
    change = update(DELIVERIES).where(
        DELIVERIES.c.target == target, DELIVERIES.c.due_at.is_not(None)
    )
    await connection.execute(change.values(url=url, host=host_of(url)))


async def hurry(connection: AsyncConnection, target: str, kind: str) -> DeliveryTicket | None:
    """Let what a receiver is yet to hear of one kind be due now; None if there is nothing."""
    events = select(EVENTS.c.id).where(EVENTS.c.type == kind)
    change = (
        update(DELIVERIES)
        .where(
            DELIVERIES.c.target == target,
            DELIVERIES.c.state == "pending",
            DELIVERIES.c.event_id.in_(events),
        )
        .values(due_at=now(), ticket_until=None)
        .returning(*(DELIVERIES.c[one] for one in ("id", "account_id", "host")))
    )
    row = (await connection.execute(change)).first()
    return None if row is None else DeliveryTicket(*row)


async def _give_up(connection: AsyncConnection, which: ColumnElement[bool], failure: str) -> None:
    await connection.execute(
        update(DELIVERIES)
        .where(which, DELIVERIES.c.due_at.is_not(None))
        .values(state="failed", due_at=None, taken_until=None, failure=failure, done_at=now())
    )


async def purge(database: Database, before: datetime, limit: int = 1_000) -> int:
    """Delete up to `limit` events of before an instant, with their deliveries and their log."""
    old = select(EVENTS.c.id).where(EVENTS.c.created_at < before).limit(limit)
    async with database.write() as connection:
        return (await connection.execute(delete(EVENTS).where(EVENTS.c.id.in_(old)))).rowcount
