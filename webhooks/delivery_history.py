"""An account's deliveries with their attempts, and redelivery.

Invariant: a redelivery has the id and body of the first delivery; an account sees only its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Select, select, update

from core.db.database import Database
from core.db.tables.base import now
from core.db.tables.webhooks import WebhookAttemptRow, WebhookDeliveryRow, WebhookEndpointRow
from webhooks.deliveries import DELIVERIES, EVENTS, ID
from webhooks.errors import DeliveryNotFound, EndpointDisabled
from webhooks.tickets import DeliveryTicket

State = Literal["pending", "delivered", "failed"]

#: Cap on attempts shown with one delivery, the newest; redeliveries may have made more.
MAX_ATTEMPTS = 50


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """One attempt: when it was made, the status that was answered, and how long it took."""

    at: datetime
    status: int | None
    milliseconds: int
    failure: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event for one receiver; `log` has its attempts, newest first."""

    id: str
    event_id: str
    event_type: str
    target: str
    url: str
    state: State
    attempts: int
    created_at: datetime
    due_at: datetime | None
    done_at: datetime | None
    failure: str
    log: Sequence[DeliveryAttempt] = ()


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries; `before` is the last id of the previous page."""

    account: str
    target: str | None = None
    state: State | None = None
    before: str | None = None


#: The columns of `Delivery`, in the order of its fields.
COLUMNS = (
    *(DELIVERIES.c.id, DELIVERIES.c.event_id, EVENTS.c.type, DELIVERIES.c.target, DELIVERIES.c.url),
    *(DELIVERIES.c.state, DELIVERIES.c.attempts, DELIVERIES.c.created_at, DELIVERIES.c.due_at),
    *(DELIVERIES.c.done_at, DELIVERIES.c.failure),
)


def _deliveries() -> Select[Any]:
    of_event = EVENTS.c.id == DELIVERIES.c.event_id
    return select(*COLUMNS).select_from(DELIVERIES).join(EVENTS, of_event)


async def list_deliveries(
    database: Database, wanted: DeliveryFilter, limit: int
) -> Sequence[Delivery]:
    """Return up to `limit` deliveries, newest first, without their attempts."""
    query = _deliveries().where(DELIVERIES.c.account_id == wanted.account)
    if wanted.target is not None:
        query = query.where(DELIVERIES.c.target == wanted.target)
    if wanted.state is not None:
        query = query.where(DELIVERIES.c.state == wanted.state)
    if wanted.before is not None:
        query = query.where(DELIVERIES.c.id < wanted.before)
    async with database.read() as connection:
        rows = await connection.execute(query.order_by(DELIVERIES.c.id.desc()).limit(limit))
        return [Delivery(*row) for row in rows]


async def read_delivery(database: Database, account: str, name: str) -> Delivery:
    """Return one delivery with its attempts, newest first.

    Raises:
        DeliveryNotFound: this account has no such delivery.
    """
    _check_id(name)
    query = _deliveries().where(DELIVERIES.c.id == name, DELIVERIES.c.account_id == account)
    attempt = WebhookAttemptRow
    attempts = (
        select(attempt.at, attempt.status, attempt.milliseconds, attempt.failure)
        .where(attempt.delivery_id == name)
        .order_by(attempt.id.desc())
        .limit(MAX_ATTEMPTS)
    )
    async with database.read() as connection:
        row = (await connection.execute(query)).one_or_none()
        if row is None:
            raise DeliveryNotFound(f"delivery {name} not found")
        log = [DeliveryAttempt(*found) for found in await connection.execute(attempts)]
    return replace(Delivery(*row), log=log)


async def redeliver(database: Database, account: str, name: str) -> DeliveryTicket:
    """Make a delivery due again, from the start of the retry schedule, whatever its state.

    Returns:
        Its ticket, to be pushed after this.

    Raises:
        DeliveryNotFound: this account has no such delivery.
        EndpointDisabled: its endpoint must be enabled first.
    """
    _check_id(name)
    delivery, endpoint = WebhookDeliveryRow, WebhookEndpointRow
    change = (
        update(delivery)
        .where(delivery.id == name, delivery.account_id == account)
        .values(
            state="pending",
            attempts=0,
            due_at=now(),
            done_at=None,
            ticket_until=None,
            taken_until=None,
        )
        .returning(delivery.id, delivery.account_id, delivery.host, delivery.target)
    )
    async with database.write() as connection:
        row = (await connection.execute(change)).one_or_none()
        if row is None:
            raise DeliveryNotFound(f"delivery {name} not found")
        *ticket, target = row
        disabled = select(endpoint.disabled_at).where(endpoint.id == target)
        if await connection.scalar(disabled) is not None:
            raise EndpointDisabled(f"webhook endpoint {target} is disabled: enable it first")
        return DeliveryTicket(*ticket)


def _check_id(name: str) -> None:
    if ID.fullmatch(name) is None:
        raise DeliveryNotFound("delivery not found")
