"""Reads several statements' worth of the database as of one moment."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from sqlalchemy.ext.asyncio import AsyncConnection

from core.db.engine import Database


@asynccontextmanager
async def snapshot(database: Database) -> AsyncGenerator[AsyncConnection, None]:
    """Open a connection that sees nothing of what is committed later; SQLite's all do.

    So a month that is closed between two statements cannot look half closed.
    """
    async with database.read() as connection:
        if not database.is_sqlite:
            await connection.execution_options(isolation_level="REPEATABLE READ")
        yield connection
