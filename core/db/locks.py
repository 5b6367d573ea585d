"""The ledger's lock and that of prices: what must not happen at once.

Whoever adds usage shares the ledger's, whoever closes a month has it alone. Prices are set by one
at a time.

Row locks would not do: they cannot keep out rows that are not there yet. SQLite needs none, a
writing transaction has the whole file. Invariant: held until the transaction ends.
"""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

#: Any numbers that name the locks.
LEDGER = 7_351_943
PRICES = 7_351_944


async def share_ledger(connection: AsyncConnection) -> None:
    """Let no month be closed before this transaction ends."""
    if connection.dialect.name != "sqlite":
        await connection.execute(select(func.pg_advisory_xact_lock_shared(LEDGER)))


async def own_ledger(connection: AsyncConnection) -> None:
    """Wait for everybody who adds usage, and keep others out until this transaction ends."""
    if connection.dialect.name != "sqlite":
        await connection.execute(select(func.pg_advisory_xact_lock(LEDGER)))


async def own_prices(connection: AsyncConnection) -> None:
    """Let nobody else set prices, whose rules look at those that are there."""
    if connection.dialect.name != "sqlite":
        await connection.execute(select(func.pg_advisory_xact_lock(PRICES)))
