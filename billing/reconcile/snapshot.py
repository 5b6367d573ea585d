"""A connection on which several statements read one snapshot of the database."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection

from core.db.database import Database


@asynccontextmanager
async def snapshot(database: Database) -> AsyncGenerator[AsyncConnection, None]:
    """Open a connection that does not see later commits, so that no month looks half closed.

    SQLite's transactions always read one snapshot.
    """
    async with database.read() as connection:
        if not database.is_sqlite:
            await connection.execution_options(isolation_level="REPEATABLE READ")
        yield connection
