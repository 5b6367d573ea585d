"""Accounts in SQL: who pays."""

from billing.bulk import insert_missing
from billing.database import Database
from billing.tables.accounts import Account
from billing.tables.base import now, table_of


async def ensure_account(database: Database, account_id: str, name: str = "") -> None:
    """Add an account; one that is there stays as it is."""
    row = {"id": account_id, "name": name, "currency": "USD", "created_at": now()}
    texts = ("billing_name", "billing_address", "billing_email", "tax_id", "tax_note")
    async with database.write() as connection:
        await insert_missing(connection, table_of(Account), [row | dict.fromkeys(texts, "")])
