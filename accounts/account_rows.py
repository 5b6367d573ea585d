"""Rows of the accounts table, for transactions of other modules."""

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from core.db.bulk_insert import insert_missing
from core.db.database import Database
from core.db.tables.accounts import AccountRow
from core.db.tables.base import now, table_of


async def ensure_account(database: Database, account_id: str, name: str = "") -> None:
    """Add an account; an existing one stays as it is."""
    row = {"id": account_id, "name": name, "currency": "USD", "created_at": now()}
    texts = ("billing_name", "billing_address", "billing_email", "tax_id", "tax_note")
    async with database.write() as connection:
        await insert_missing(connection, table_of(AccountRow), [row | dict.fromkeys(texts, "")])


async def account_exists(connection: AsyncConnection, account_id: str) -> bool:
    """Return whether there is an account with this id."""
    accounts = table_of(AccountRow)
    query = select(accounts.c.id).where(accounts.c.id == account_id)
    return await connection.scalar(query) is not None


async def lock_account(connection: AsyncConnection, account_id: str) -> None:
    """Lock an account until the transaction ends, for a count followed by an insert.

    On PostgreSQL a second transaction waits here; on SQLite it waits at its beginning.
    """
    accounts = table_of(AccountRow)
    query = select(accounts.c.id).where(accounts.c.id == account_id)
    await connection.execute(query.with_for_update(key_share=True))
