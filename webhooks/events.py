"""Webhook events, written in the same transaction as what they report.

Invariant: an event exists if and only if what it reports was committed, and once however often it
is added: its id is derived from what happened. An event without receivers is not written.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import orjson
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from core.db.bulk_insert import Row, insert_missing
from core.db.tables.base import now, table_of
from core.db.tables.webhooks import WebhookDeliveryRow, WebhookEndpointRow, WebhookEventRow
from core.ids import new_id
from webhooks.tickets import DeliveryTicket

#: The event types that an endpoint can subscribe to.
EVENT_TYPES = (
    *("job.completed", "job.failed", "job.cancelled", "job.expired"),
    *("batch.completed", "batch.failed", "batch.cancelled", "batch.expired"),
    *("batch.waiting", "budget.threshold", "budget.refused", "webhook.test"),
)


class Receiver(NamedTuple):
    """Where an event is sent; `target` is an endpoint's or budget's id, or '' for a job's URL."""

    target: str
    url: str


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to add; it goes to `own` and to the account's endpoints that ask for its type."""

    account: str
    type: str
    data: dict[str, Any]
    id: str
    at: datetime
    own: Receiver | None = None
    #: True: sent to `own` only, whatever event types the account's endpoints ask for.
    exclusive: bool = False


class Listener(NamedTuple):
    """An enabled endpoint; `events` are the types it asks for, all if empty."""

    id: str
    account: str
    url: str
    events: Collection[str]


async def add_event(
    connection: AsyncConnection,
    account: str,
    type_: str,
    data: dict[str, Any],
    *,
    event_id: str | None = None,
    own: Receiver | None = None,
) -> Sequence[DeliveryTicket]:
    """Add one event for the account's endpoints, and for `own` if given.

    Args:
        connection: the transaction that changes what the event reports.
        account: whose endpoints get it.
        type_: one of EVENT_TYPES.
        data: the body's `data`.
        event_id: makes a repeated call add nothing; a new id if None.
        own: a further receiver.

    Returns:
        Tickets that may be pushed after the commit, for delivery without delay; deliveries whose
        tickets are not pushed are found within a second.
    """
    event = NewEvent(account, type_, data, event_id or new_id("evt"), now(), own)
    return await add_events(connection, [event], await listeners(connection, {account}))


async def listeners(connection: AsyncConnection, accounts: Collection[str]) -> Sequence[Listener]:
    """Return the enabled endpoints of these accounts."""
    endpoint = WebhookEndpointRow
    query = select(endpoint.id, endpoint.account_id, endpoint.url, endpoint.events).where(
        endpoint.account_id.in_(accounts), endpoint.disabled_at.is_(None)
    )
    return [Listener(*row) for row in await connection.execute(query)]


async def add_events(
    connection: AsyncConnection, events: Sequence[NewEvent], known: Sequence[Listener]
) -> Sequence[DeliveryTicket]:
    """Add events, with one delivery per receiver; returns the deliveries' tickets."""
    wanted = [(event, receivers) for event in events if (receivers := _receivers(event, known))]
    if not wanted:
        return []
    deliveries = [
        _delivery(event, receiver) for event, receivers in wanted for receiver in receivers
    ]
    rows = [_row(event) for event, _ in wanted]
    await insert_missing(connection, table_of(WebhookEventRow), rows)
    await insert_missing(connection, table_of(WebhookDeliveryRow), deliveries)
    return [DeliveryTicket(row["id"], row["account_id"], row["host"]) for row in deliveries]


def _receivers(event: NewEvent, known: Sequence[Listener]) -> list[Receiver]:
    own = [] if event.own is None else [event.own]
    if event.exclusive:
        return own
    return own + [
        Receiver(listener.id, listener.url)
        for listener in known
        if listener.account == event.account
        and (not listener.events or event.type in listener.events)
    ]


def _row(event: NewEvent) -> Row:
    body = {"type": event.type, "timestamp": event.at.isoformat(), "data": event.data}
    return {
        "id": event.id,
        "account_id": event.account,
        "type": event.type,
        "payload": orjson.dumps(body).decode(),
        "created_at": now(),
    }


def _delivery(event: NewEvent, receiver: Receiver) -> Row:
    instant = now()
    return {
        "id": new_id("whd"),
        "event_id": event.id,
        "account_id": event.account,
        "target": receiver.target,
        "url": receiver.url,
        "host": host_of(receiver.url),
        "state": "pending",
        "attempts": 0,
        "due_at": instant,
        "ticket_until": None,
        "taken_until": None,
        "failure": "",
        "created_at": instant,
        "done_at": None,
    }


def host_of(url: str) -> str:
    """Return a URL's host and port; concurrency limits and tickets go by it."""
    return urlsplit(url).netloc.lower()
