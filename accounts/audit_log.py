"""Reads the audit log: who changed what in an account."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, select

from core.db.database import Database
from core.db.tables.audit import AuditEntryRow
from core.db.tables.base import table_of

LOG = table_of(AuditEntryRow)


async def read_log(
    database: Database, account: str | None, *, before: int | None = None, limit: int = 100
) -> Sequence[Row[Any]]:
    """Return entries, newest first; of all accounts when `account` is None."""
    query = select(LOG).order_by(LOG.c.id.desc()).limit(limit)
    if account is not None:
        query = query.where(LOG.c.account_id == account)
    if before is not None:
        query = query.where(LOG.c.id < before)
    async with database.read() as connection:
        return (await connection.execute(query)).all()
