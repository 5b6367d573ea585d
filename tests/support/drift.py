"""Plants drift for tests of reconciliation: changes protected rows without their triggers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from core.db.database import Database


async def plant(database: Database, statement: str, **values: Any) -> int:
    """Run a statement without triggers; return how many rows it changed."""
    async with database.write() as connection, _unguarded(connection):
        return (await connection.execute(text(statement), values)).rowcount


@asynccontextmanager
async def _unguarded(connection: AsyncConnection) -> AsyncIterator[None]:
    if connection.dialect.name != "sqlite":
        await connection.execute(text("SET LOCAL session_replication_role = replica"))
        yield
        return
    triggers = text("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
    kept = (await connection.execute(triggers)).all()
    for name, _ in kept:
        await connection.execute(text(f"DROP TRIGGER {name}"))
    yield
    for _, definition in kept:
        await connection.exec_driver_sql(definition)
