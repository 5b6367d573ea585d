"""The ledger's lock: whoever adds usage shares it, whoever closes a month has it alone.

Row locks would not do: they cannot keep out rows that are not there yet. SQLite needs none, a
writing transaction has the whole file. Invariant: held until the transaction ends.
"""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

#: Any number that names the lock.
LEDGER = 7_351_943


async def share_ledger(connection: AsyncConnection) -> None:
    """Let no month be closed before this transaction ends."""
    if connection.dialect.name != "sqlite":
        await connection.execute(select(func.pg_advisory_xact_lock_shared(LEDGER)))


async def own_ledger(connection: AsyncConnection) -> None:
    """Wait for everybody who adds usage, and keep others out until this transaction ends."""
    if connection.dialect.name != "sqlite":
        await connection.execute(select(func.pg_advisory_xact_lock(LEDGER)))
