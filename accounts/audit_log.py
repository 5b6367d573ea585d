"""Reads the audit log: who changed what in an account."""

from collections.abc import Sequence

from sqlalchemy import select

from accounts.records import AUDIT_ENTRY, AuditRecord
from core.db.database import Database
from core.db.tables.audit import AuditEntryRow
from core.db.tables.base import table_of

LOG = table_of(AuditEntryRow)


async def read_log(
    database: Database, account: str | None, *, before: int | None = None, limit: int = 100
) -> Sequence[AuditRecord]:
    """Return entries, newest first; of all accounts when `account` is None."""
    query = select(*AUDIT_ENTRY).order_by(LOG.c.id.desc()).limit(limit)
    if account is not None:
        query = query.where(LOG.c.account_id == account)
    if before is not None:
        query = query.where(LOG.c.id < before)
    async with database.read() as connection:
        return [AuditRecord(*row) for row in await connection.execute(query)]
