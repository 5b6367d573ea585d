"""Locks of the ledger and of prices, held until the end of the transaction.

Transactions that add usage share the ledger's lock; closing a month takes it alone. Price changes
take theirs one at a time. Row locks would not do, because they cannot lock rows that do not exist
yet. SQLite needs no lock: a writing transaction locks the whole file.
"""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

#: Arbitrary numbers that name the locks.
LEDGER = 7_351_943
PRICES = 7_351_944


async def share_ledger(connection: AsyncConnection) -> None:
    """Allow other writers of usage, and block the close of a month until this transaction ends."""
    if connection.dialect.name != "sqlite":
        await connection.execute(select(func.pg_advisory_xact_lock_shared(LEDGER)))


async def own_ledger(connection: AsyncConnection) -> None:
    """Wait for all writers of usage, and block others until this transaction ends."""
    if connection.dialect.name != "sqlite":
        await connection.execute(select(func.pg_advisory_xact_lock(LEDGER)))


async def own_prices(connection: AsyncConnection) -> None:
    """Block other price changes, because the rules for prices read the existing ones."""
    if connection.dialect.name != "sqlite":
        await connection.execute(select(func.pg_advisory_xact_lock(PRICES)))
