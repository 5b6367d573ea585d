"""The log of an account's deliveries, and sending one of them once more.

Invariant: a redelivery has the id and the body of the first; an account sees its own only.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import select, update

from core.db.engine import Database
from core.db.tables.base import now
from webhooks.deliveries import ATTEMPTS, DELIVERIES, ENDPOINTS, EVENTS, ID
from webhooks.errors import DeliveryNotFound, EndpointDisabled
from webhooks.tickets import DeliveryTicket

State = Literal["pending", "delivered", "failed"]

#: Attempts that are shown with one delivery, the newest; redeliveries may have made more.
MOST_ATTEMPTS = 50


@dataclass(frozen=True, slots=True)
class DeliveryAttempt:
    """One try."""

    at: datetime
    status: int | None
    milliseconds: int
    failure: str


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one receiver."""

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
    """Which deliveries; `before` is the last id of an earlier page."""

    account: str
    target: str | None = None
    state: State | None = None
    before: str | None = None


def _deliveries() -> Any:
    return select(DELIVERIES, EVENTS.c.type).join(EVENTS, EVENTS.c.id == DELIVERIES.c.event_id)


def _delivery(row: Any, log: Sequence[DeliveryAttempt] = ()) -> Delivery:
    return Delivery(
        id=row.id,
        event_id=row.event_id,
        event_type=row.type,
        target=row.target,
        url=row.url,
        state=row.state,
        attempts=row.attempts,
        created_at=row.created_at,
        due_at=row.due_at,
        done_at=row.done_at,
        failure=row.failure,
        log=log,
    )


async def list_deliveries(
    database: Database, wanted: DeliveryFilter, limit: int
) -> Sequence[Delivery]:
    """Return up to `limit` deliveries, the newest first, without their attempts."""
    query = _deliveries().where(DELIVERIES.c.account_id == wanted.account)
    if wanted.target is not None:
        query = query.where(DELIVERIES.c.target == wanted.target)
    if wanted.state is not None:
        query = query.where(DELIVERIES.c.state == wanted.state)
    if wanted.before is not None:
        query = query.where(DELIVERIES.c.id < wanted.before)
    async with database.read() as connection:
        found = await connection.execute(query.order_by(DELIVERIES.c.id.desc()).limit(limit))
        return [_delivery(row) for row in found]


async def read_delivery(database: Database, account: str, name: str) -> Delivery:
    """Return one delivery with its attempts, the newest first.

    Raises:
        DeliveryNotFound: there is none of this account.
    """
    _check_id(name)
    query = _deliveries().where(DELIVERIES.c.id == name, DELIVERIES.c.account_id == account)
    tries = select(ATTEMPTS).where(ATTEMPTS.c.delivery_id == name).order_by(ATTEMPTS.c.id.desc())
    async with database.read() as connection:
        row = (await connection.execute(query)).one_or_none()
        if row is None:
            raise DeliveryNotFound(f"no delivery {name}")
        log = [
            DeliveryAttempt(one.at, one.status, one.milliseconds, one.failure)
            for one in await connection.execute(tries.limit(MOST_ATTEMPTS))
        ]
    return _delivery(row, log)


async def redeliver(database: Database, account: str, name: str) -> DeliveryTicket:
    """Have a delivery tried again from the beginning of the schedule, whatever became of it.

    Raises:
        DeliveryNotFound: there is none of this account.
        EndpointDisabled: nothing is sent there; enable it first.
    """
    _check_id(name)
    change = (
        update(DELIVERIES)
        .where(DELIVERIES.c.id == name, DELIVERIES.c.account_id == account)
        .values(
            state="pending",
            attempts=0,
            due_at=now(),
            done_at=None,
            ticket_until=None,
            taken_until=None,
        )
        .returning(*(DELIVERIES.c[one] for one in ("id", "account_id", "host", "target")))
    )
    async with database.write() as connection:
        row = (await connection.execute(change)).one_or_none()
        if row is None:
            raise DeliveryNotFound(f"no delivery {name}")
        disabled = select(ENDPOINTS.c.disabled_at).where(ENDPOINTS.c.id == row.target)
        if await connection.scalar(disabled) is not None:
            raise EndpointDisabled(f"webhook endpoint {row.target} is disabled: enable it first")
        return DeliveryTicket(row.id, row.account_id, row.host)


def _check_id(name: str) -> None:
    if ID.fullmatch(name) is None:
        raise DeliveryNotFound("no such delivery")
