"""Events that accounts are told of by webhook, written in the transaction in which they happen.

Invariant: an event is there if and only if what it tells is, and once however often it is added:
its id follows from what happened. Where nobody listens, nothing is written.
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
    *("budget.threshold", "webhook.test"),
)


class Receiver(NamedTuple):
    """Who hears of an event. `target` is an endpoint's id, a budget's, or '' for a job's URL."""

    target: str
    url: str


@dataclass(frozen=True, slots=True)
class NewEvent:
    """What happened; heard by `own` and by the account's endpoints that ask for its type."""

    account: str
    type: str
    data: dict[str, Any]
    id: str
    at: datetime
    own: Receiver | None = None
    #: True: sent to `own` only, whatever event types the account's endpoints ask for.
    exclusive: bool = False


class Listener(NamedTuple):
    """An endpoint that is told."""

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
    """Add one event, to be told to who listens; `event_id` makes a repeat add nothing.

    `type_` is one of EVENT_TYPES. What it returns may be pushed as tickets after the commit, so
    that it is told at once; what is not pushed is found within a second.
    """
    event = NewEvent(account, type_, data, event_id or new_id("evt"), now(), own)
    return await add_events(connection, [event], await listeners(connection, {account}))


async def listeners(connection: AsyncConnection, accounts: Collection[str]) -> Sequence[Listener]:
    """Return the endpoints of accounts that are not disabled."""
    endpoint = WebhookEndpointRow
    query = select(endpoint.id, endpoint.account_id, endpoint.url, endpoint.events).where(
        endpoint.account_id.in_(accounts), endpoint.disabled_at.is_(None)
    )
    return [Listener(*row) for row in await connection.execute(query)]


async def add_events(
    connection: AsyncConnection, events: Sequence[NewEvent], known: Sequence[Listener]
) -> Sequence[DeliveryTicket]:
    """Add events and a delivery for each who is to hear of one; returns their tickets."""
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
    """Return a URL's host and port, by which deliveries wait for each other."""
    return urlsplit(url).netloc.lower()
