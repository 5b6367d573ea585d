"""An account's endpoints: create, change, rotate the secret, enable, remove, test.

Invariant: each change and its audit entry are one transaction; an account reaches only its own
endpoints; a secret is shown once, when it is created.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from accounts.account_rows import lock_account
from core.db.audit import audit
from core.db.database import Database
from core.db.tables.base import now, table_of, typed_row
from core.db.tables.webhooks import WebhookEndpointRow
from core.ids import new_id
from webhooks.deliveries import ID, cancel_deliveries, change_url, make_due
from webhooks.errors import EndpointDisabled, EndpointNotFound, TooManyEndpoints
from webhooks.events import NewEvent, Receiver, add_events
from webhooks.signing import new_secret
from webhooks.tickets import DeliveryTicket

TABLE = table_of(WebhookEndpointRow)

#: The type of the event by which an account tests its endpoint.
TEST_EVENT = "webhook.test"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint as its account sees it; `secret` is set only when it was just created."""

    id: str
    url: str
    events: Sequence[str]
    description: str
    created_at: datetime
    failing_since: datetime | None = None
    disabled_at: datetime | None = None
    disabled_why: str = ""
    previous_until: datetime | None = None
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class EndpointOwner:
    """The account that owns the endpoint, and the key that acts for it."""

    account: str
    actor: str


def _endpoint(row: WebhookEndpointRow, secret: str | None = None) -> Endpoint:
    until = row.previous_until
    return Endpoint(
        id=row.id,
        url=row.url,
        events=tuple(row.events),
        description=row.description,
        created_at=row.created_at,
        failing_since=row.failing_since,
        disabled_at=row.disabled_at,
        disabled_why=row.disabled_why,
        previous_until=until if until and until > now() else None,
        secret=secret,
    )


async def create_endpoint(
    database: Database,
    caller: EndpointOwner,
    *,
    url: str,
    events: Sequence[str],
    description: str,
    max_endpoints: int,
) -> Endpoint:
    """Add an endpoint; returns it with its secret.

    Raises:
        TooManyEndpoints: the account already has `max_endpoints`.
    """
    name, secret = new_id("whe"), new_secret()
    row = {
        "id": name,
        "account_id": caller.account,
        "url": url,
        "events": sorted(set(events)),
        "description": description,
        "secret": secret,
        "created_at": now(),
        "disabled_why": "",
    }
    own = TABLE.c.account_id == caller.account
    async with database.write() as connection:
        await lock_account(connection, caller.account)
        count = await connection.scalar(select(func.count()).select_from(TABLE).where(own))
        if (count or 0) >= max_endpoints:
            raise TooManyEndpoints(
                f"an account may have at most {max_endpoints} webhook endpoints: remove one"
            )
        await connection.execute(insert(WebhookEndpointRow), [row])
        await _audit(connection, caller, "webhook_created", name)
        return _endpoint(await _find(connection, caller.account, name), secret)


async def list_endpoints(database: Database, account: str) -> Sequence[Endpoint]:
    """Return an account's endpoints, newest first; they are few."""
    query = select(TABLE).where(TABLE.c.account_id == account).order_by(TABLE.c.id.desc())
    async with database.read() as connection:
        rows = await connection.execute(query)
        return [_endpoint(typed_row(WebhookEndpointRow, row)) for row in rows]


async def read_endpoint(database: Database, account: str, name: str) -> Endpoint:
    """Return one endpoint.

    Raises:
        EndpointNotFound: this account has no such endpoint.
    """
    async with database.read() as connection:
        return _endpoint(await _find(connection, account, name))


async def change_endpoint(
    database: Database, caller: EndpointOwner, name: str, changes: dict[str, Any]
) -> Endpoint:
    """Change URL, events or description; pending deliveries go to the new URL.

    Raises:
        EndpointNotFound: this account has no such endpoint.
    """
    async with database.write() as connection:
        await _find(connection, caller.account, name)
        if changes:
            await connection.execute(update(TABLE).where(TABLE.c.id == name).values(changes))
            if "url" in changes:
                await change_url(connection, name, changes["url"])
            fields = sorted(changes)
            await _audit(connection, caller, "webhook_changed", name, fields=fields)
        return _endpoint(await _find(connection, caller.account, name))


async def remove_endpoint(database: Database, caller: EndpointOwner, name: str) -> None:
    """Remove an endpoint; its pending deliveries are given up, their log stays.

    Raises:
        EndpointNotFound: this account has no such endpoint.
    """
    async with database.write() as connection:
        await _find(connection, caller.account, name)
        await connection.execute(delete(TABLE).where(TABLE.c.id == name))
        await cancel_deliveries(connection, name, "the endpoint was removed")
        await _audit(connection, caller, "webhook_removed", name)


async def rotate_endpoint(
    database: Database, caller: EndpointOwner, name: str, overlap: timedelta
) -> Endpoint:
    """Give an endpoint a new secret; during the overlap deliveries carry both signatures.

    Raises:
        EndpointNotFound: this account has no such endpoint.
    """
    secret = new_secret()
    async with database.write() as connection:
        await _find(connection, caller.account, name)
        await connection.execute(
            update(TABLE)
            .where(TABLE.c.id == name)
            .values(previous_secret=TABLE.c.secret, previous_until=now() + overlap, secret=secret)
        )
        await _audit(connection, caller, "webhook_secret_rotated", name)
        return _endpoint(await _find(connection, caller.account, name), secret)


async def enable_endpoint(database: Database, caller: EndpointOwner, name: str) -> Endpoint:
    """Enable an endpoint again; events that it missed are sent only by redelivery.

    Raises:
        EndpointNotFound: this account has no such endpoint.
    """
    async with database.write() as connection:
        await _find(connection, caller.account, name)
        await connection.execute(
            update(TABLE)
            .where(TABLE.c.id == name)
            .values(disabled_at=None, disabled_why="", failing_since=None)
        )
        await _audit(connection, caller, "webhook_enabled", name)
        return _endpoint(await _find(connection, caller.account, name))


async def send_test_event(database: Database, account: str, name: str) -> DeliveryTicket:
    """Add a test event for this endpoint, whatever event types it asks for.

    While a test event is pending, it is made due again instead: tests cannot flood a receiver.

    Returns:
        The ticket of its delivery, to be pushed after this.

    Raises:
        EndpointNotFound: this account has no such endpoint.
        EndpointDisabled: it must be enabled first.
    """
    async with database.write() as connection:
        row = await _find(connection, account, name)
        if row.disabled_at is not None:
            raise EndpointDisabled(f"webhook endpoint {name} is disabled: enable it first")
        await lock_account(connection, account)
        if (pending := await make_due(connection, name, TEST_EVENT)) is not None:
            return pending
        event = NewEvent(
            account=account,
            type=TEST_EVENT,
            data={"id": name, "object": "webhook", "text": "this is a test"},
            id=new_id("evt"),
            at=now(),
            own=Receiver(name, row.url),
            exclusive=True,
        )
        (ticket,) = await add_events(connection, [event], [])
    return ticket


async def _audit(
    connection: AsyncConnection, caller: EndpointOwner, action: str, name: str, **details: Any
) -> None:
    """Write an audit entry that the account's admins can read."""
    await audit(connection, caller.actor, action, name, account=caller.account, **details)


async def _find(connection: AsyncConnection, account: str, name: str) -> WebhookEndpointRow:
    if ID.fullmatch(name) is None:
        raise EndpointNotFound("webhook endpoint not found")
    query = select(TABLE).where(TABLE.c.id == name, TABLE.c.account_id == account)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise EndpointNotFound(f"webhook endpoint {name} not found")
    return typed_row(WebhookEndpointRow, row)
