"""The secret that signs an account's deliveries to URLs of its jobs; created on first use.

Invariant: once used or shown, a secret changes only by a rotation.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from core.db.audit import audit
from core.db.bulk_insert import insert_missing
from core.db.database import Database
from core.db.tables.base import now, table_of, typed_row
from core.db.tables.webhooks import WebhookSecretRow
from webhooks.signing import new_secret, valid_keys

SECRETS = table_of(WebhookSecretRow)


@dataclass(frozen=True, slots=True)
class AccountSecret:
    """An account's secret; the previous one is valid, too, until `previous_until`."""

    secret: str
    created_at: datetime
    previous_until: datetime | None


async def account_keys(
    connection: AsyncConnection, accounts: Collection[str], instant: datetime
) -> dict[str, Sequence[str]]:
    """Return the secrets that sign deliveries, by account; create the ones that are missing.

    Args:
        connection: a transaction that may write.
        accounts: the accounts whose secrets are needed.
        instant: secrets valid at this instant are returned, the current one first.
    """
    if not accounts:
        return {}
    rows = await _secrets(connection, accounts)
    if missing := set(accounts) - {row.account_id for row in rows}:
        new = [
            {"account_id": account, "secret": new_secret(), "created_at": instant}
            for account in sorted(missing)
        ]
        await insert_missing(connection, SECRETS, new)
        rows = await _secrets(connection, accounts)
    return {
        row.account_id: valid_keys(row.secret, row.previous_secret, row.previous_until, instant)
        for row in rows
    }


async def _secrets(
    connection: AsyncConnection, accounts: Collection[str]
) -> Sequence[WebhookSecretRow]:
    found = await connection.execute(select(SECRETS).where(SECRETS.c.account_id.in_(accounts)))
    return [typed_row(WebhookSecretRow, row) for row in found]


async def read_secret(database: Database, account: str) -> AccountSecret:
    """Return an account's secret; create it if it is missing."""
    async with database.write() as connection:
        await account_keys(connection, {account}, now())
        return await _read(connection, account)


async def rotate_secret(
    database: Database, account: str, actor: str, overlap: timedelta
) -> AccountSecret:
    """Replace an account's secret; during the overlap deliveries carry both signatures."""
    instant = now()
    async with database.write() as connection:
        await account_keys(connection, {account}, instant)
        await connection.execute(
            update(SECRETS)
            .where(SECRETS.c.account_id == account)
            .values(
                previous_secret=SECRETS.c.secret,
                previous_until=instant + overlap,
                secret=new_secret(),
                created_at=instant,
            )
        )
        await audit(connection, actor, "webhook_secret_rotated", account, account=account)
        return await _read(connection, account)


async def _read(connection: AsyncConnection, account: str) -> AccountSecret:
    (row,) = await _secrets(connection, [account])
    until = row.previous_until if row.previous_until and row.previous_until > now() else None
    return AccountSecret(row.secret, row.created_at, until)
