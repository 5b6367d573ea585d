"""Deliveries in SQL: which are due, claiming them, and giving them up.

Invariant: a due delivery is claimed by one process at a time; once `taken_until` has passed, any
process may claim it.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, delete, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from core.db.database import Database
from core.db.tables.base import now, table_of
from core.db.tables.budgets import BudgetRow
from core.db.tables.webhooks import (
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
BUDGETS = table_of(BudgetRow)

#: The form of our ids; SQL is not asked for anything else.
ID = re.compile(r"[a-z]+_[0-9a-z]{1,48}")

#: How long a delivery that has a ticket gets no other one.
TICKET_SECONDS = 30.0

#: Cap on tickets made by one poll, in all and for one account and host.
MAX_TICKETS = 500
MAX_TICKETS_PER_RECEIVER = 100


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery claimed by this process; `keys` are the secrets that sign it."""

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
    """Return tickets for due deliveries without one, oldest first per receiver, and mark them.

    At most MAX_TICKETS_PER_RECEIVER are of one account and host, and accounts take turns, so that a
    long queue to one host, or those to many hosts of one account, do not hide the others.

    Raises:
        DatabaseUnavailable: nothing was marked, or not everything.
    """
    instant = now()
    position = func.row_number().over(
        partition_by=(DELIVERIES.c.account_id, DELIVERIES.c.host), order_by=DELIVERIES.c.due_at
    )
    due = (
        select(
            *(DELIVERIES.c[name] for name in ("id", "account_id", "host", "due_at")),
            position.label("position"),
        )
        .where(
            DELIVERIES.c.due_at <= instant,
            _free(DELIVERIES.c.taken_until, instant),
            _free(DELIVERIES.c.ticket_until, instant),
        )
        .subquery()
    )
    turn = func.row_number().over(
        partition_by=due.c.account_id, order_by=(due.c.position, due.c.due_at)
    )
    turns = (
        select(due, turn.label("turn")).where(due.c.position <= MAX_TICKETS_PER_RECEIVER).subquery()
    )
    query = (
        select(turns.c.id, turns.c.account_id, turns.c.host)
        .order_by(turns.c.turn, turns.c.due_at)
        .limit(MAX_TICKETS)
    )
    async with database.read() as connection:
        tickets = [DeliveryTicket(*row) for row in await connection.execute(query)]
    if tickets:
        until = instant + timedelta(seconds=TICKET_SECONDS)
        mark = update(DELIVERIES).where(DELIVERIES.c.id.in_([ticket.id for ticket in tickets]))
        async with database.write() as connection:
            await connection.execute(mark.values(ticket_until=until))
    return tickets


async def backlog(database: Database) -> tuple[int, float]:
    """Return how many deliveries are due, and for how many seconds the oldest has been."""
    instant = now()
    due_at = WebhookDeliveryRow.due_at
    query = select(func.count(), func.min(due_at)).where(due_at <= instant)
    async with database.read() as connection:
        count, oldest = (await connection.execute(query)).one()
    return count, 0.0 if oldest is None else (instant - oldest).total_seconds()


async def claim(
    database: Database, ids: Sequence[str], seconds: float
) -> Sequence[ClaimedDelivery | None]:
    """Claim deliveries for some time; a delivery whose endpoint is gone or disabled is given up.

    Args:
        database: where deliveries are.
        ids: the deliveries to claim.
        seconds: how long the claim lasts.

    Returns:
        For each id the delivery; None if it is not due, or claimed by another process.

    Raises:
        DatabaseUnavailable: nothing was claimed.
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
        own_ids: list[str] = list(await connection.scalars(change))
        rows = await _details(connection, own_ids)
        keys = await account_keys(connection, {row.account_id for row in rows}, instant)
        claimed = {row.id: _claimed(row, keys[row.account_id], instant) for row in rows}
        gone = [row.id for row in rows if claimed[row.id] is None]
        await _give_up(
            connection, DELIVERIES.c.id.in_(gone), "the receiver was removed or disabled"
        )
    return [claimed.get(name) for name in ids]


class _DeliveryDetails(NamedTuple):
    """A delivery with its event, and with the endpoint or budget that it goes to, if any."""

    id: str
    event_id: str
    account_id: str
    target: str
    url: str
    attempts: int
    payload: str
    endpoint_url: str | None
    endpoint_secret: str
    endpoint_previous_secret: str | None
    endpoint_previous_until: datetime | None
    endpoint_disabled_at: datetime | None
    budget_id: str | None
    budget_secret: str | None


async def _details(connection: AsyncConnection, ids: Collection[str]) -> Sequence[_DeliveryDetails]:
    delivery = ("id", "event_id", "account_id", "target", "url", "attempts")
    endpoint = ("url", "secret", "previous_secret", "previous_until", "disabled_at")
    columns = [
        *(DELIVERIES.c[name] for name in delivery),
        EVENTS.c.payload,
        *(ENDPOINTS.c[name] for name in endpoint),
        *(BUDGETS.c.id, BUDGETS.c.webhook_secret),
    ]
    query = (
        select(*columns)
        .select_from(DELIVERIES)
        .join(EVENTS, EVENTS.c.id == DELIVERIES.c.event_id)
        .outerjoin(ENDPOINTS, ENDPOINTS.c.id == DELIVERIES.c.target)
        .outerjoin(BUDGETS, BUDGETS.c.id == DELIVERIES.c.target)
        .where(DELIVERIES.c.id.in_(ids))
    )
    return [_DeliveryDetails(*row) for row in await connection.execute(query)]


def _claimed(
    row: _DeliveryDetails, account_secrets: Sequence[str], instant: datetime
) -> ClaimedDelivery | None:
    """Return a delivery with the URL and secrets of its receiver; None if the receiver is gone."""
    url, keys = row.url, account_secrets
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
        keys = [row.budget_secret] if row.budget_secret else account_secrets
    elif row.target:
        return None
    return ClaimedDelivery(
        *(row.id, row.event_id, row.account_id, row.target, url, row.payload, row.attempts),
        keys=keys,
    )


async def disable(connection: AsyncConnection, endpoint: str, reason: str) -> None:
    """Disable an endpoint, and give up its pending deliveries."""
    change = update(ENDPOINTS).where(ENDPOINTS.c.id == endpoint, ENDPOINTS.c.disabled_at.is_(None))
    await connection.execute(change.values(disabled_at=now(), disabled_why=reason))
    await cancel_deliveries(connection, endpoint, "the endpoint was disabled")


async def cancel_deliveries(connection: AsyncConnection, target: str, reason: str) -> None:
    """Give up the pending deliveries to a target."""
    await _give_up(connection, DELIVERIES.c.target == target, reason)


async def change_url(connection: AsyncConnection, target: str, url: str) -> None:
    """Send the pending deliveries of a target to another URL."""
    change = update(DELIVERIES).where(
        DELIVERIES.c.target == target, DELIVERIES.c.due_at.is_not(None)
    )
    await connection.execute(change.values(url=url, host=host_of(url)))


async def make_due(
    connection: AsyncConnection, target: str, event_type: str
) -> DeliveryTicket | None:
    """Make a target's pending delivery of an event type due now; None if there is none."""
    events = select(EVENTS.c.id).where(EVENTS.c.type == event_type)
    change = (
        update(DELIVERIES)
        .where(
            DELIVERIES.c.target == target,
            DELIVERIES.c.state == "pending",
            DELIVERIES.c.event_id.in_(events),
        )
        .values(due_at=now(), ticket_until=None)
        .returning(WebhookDeliveryRow.id, WebhookDeliveryRow.account_id, WebhookDeliveryRow.host)
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
    """Delete up to `limit` events older than an instant, with deliveries; returns how many."""
    old = select(EVENTS.c.id).where(EVENTS.c.created_at < before).limit(limit)
    async with database.write() as connection:
        return (await connection.execute(delete(EVENTS).where(EVENTS.c.id.in_(old)))).rowcount
