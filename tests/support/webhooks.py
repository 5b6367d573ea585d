"""Helpers that add endpoints, write events and read deliveries."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import insert, select, update

from core.db.database import Database
from core.db.tables.base import now, table_of
from core.db.tables.webhooks import WebhookAttemptRow, WebhookDeliveryRow, WebhookEndpointRow
from core.ids import new_id
from core.settings.billing import DatabaseSettings
from core.settings.tree import Settings
from tests.conftest import settings_for
from tests.support.receiver import Receiver
from tests.support.redis_server import RedisServer
from webhooks.deliverer import Deliverer
from webhooks.deliveries import find_due
from webhooks.events import NewEvent, add_events, listeners
from webhooks.signing import new_secret
from webhooks.tickets import DeliveryTicket

#: Settings that allow receivers on the loopback address.
REACHABLE = {"allow_networks": "127.0.0.0/8", "require_https": False, "ports": ""}


def webhook_settings(server: RedisServer, database: DatabaseSettings, **own: Any) -> Settings:
    """Return settings of a deliverer; `own` are those of webhooks that a test changes."""
    return settings_for(
        server,
        database=database.model_dump(),
        webhooks={**REACHABLE, **own},
        retention={"start": "archive"},
    )


async def listen(database: Database, receiver: Receiver, name: str = "whe_1", **fields: Any) -> str:
    """Add an endpoint; returns its secret."""
    row = {
        "id": name,
        "account_id": "acme",
        "url": receiver.url,
        "secret": new_secret(),
        **fields,
    }
    async with database.write() as connection:
        await connection.execute(insert(WebhookEndpointRow), [row])
    return str(row["secret"])


async def tell(database: Database, count: int = 1, account: str = "acme") -> list[DeliveryTicket]:
    """Write events for every endpoint of the account; their tickets are not queued."""
    events = [
        NewEvent(account, "batch.completed", {"id": f"batch_{number}"}, new_id("evt"), now())
        for number in range(count)
    ]
    async with database.write() as connection:
        return list(await add_events(connection, events, await listeners(connection, {account})))


async def deliver(deliverer: Deliverer, database: Database) -> list[DeliveryTicket]:
    """Attempt every due delivery once."""
    found = list(await find_due(database))
    await asyncio.gather(*(deliverer.serve(ticket) for ticket in found))
    return found


async def rows(database: Database, table: Any) -> Sequence[Any]:
    """Return every row of a table, in the order of their ids."""
    found = table_of(table)
    async with database.read() as connection:
        return (await connection.execute(select(found).order_by(found.c.id))).all()


async def deliveries(database: Database) -> Sequence[Any]:
    return await rows(database, WebhookDeliveryRow)


async def attempts(database: Database) -> Sequence[Any]:
    return await rows(database, WebhookAttemptRow)


async def endpoint(database: Database) -> Any:
    (row,) = await rows(database, WebhookEndpointRow)
    return row


async def states(database: Database) -> list[str]:
    return [row.state for row in await deliveries(database)]


async def pass_time(database: Database, seconds: float) -> None:
    """Move all times of deliveries and endpoints this many seconds into the past."""
    earlier = timedelta(seconds=seconds)
    async with database.write() as connection:
        for table, names in (
            (WebhookDeliveryRow, ("due_at", "ticket_until", "taken_until")),
            (WebhookEndpointRow, ("failing_since",)),
        ):
            found = table_of(table)
            for row in (await connection.execute(select(found))).all():
                changed = {
                    name: getattr(row, name) - earlier for name in names if getattr(row, name)
                }
                if changed:
                    await connection.execute(
                        update(found).where(found.c.id == row.id).values(changed)
                    )
