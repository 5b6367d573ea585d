"""The audit log: an entry is written in the transaction of the change itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from core.db.database import Database
from core.db.row_mapping import columns_of
from core.db.tables.audit import AuditEntryRow
from core.db.tables.base import table_of

LOG = table_of(AuditEntryRow)


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One entry: who did what to what; `account_id` is None where it concerns no account."""

    id: int
    at: datetime
    actor: str
    action: str
    target: str
    account_id: str | None
    details: dict[str, object]


ENTRY = columns_of(LOG, AuditRecord)


async def audit(
    connection: AsyncConnection,
    actor: str,
    action: str,
    target: str,
    *,
    account: str | None = None,
    **details: Any,
) -> None:
    """Add one entry, with the account where it concerns one; `details` hold no secret or prompt."""
    entry = {
        "actor": actor,
        "action": action,
        "target": target,
        "account_id": account,
        "details": details,
    }
    await connection.execute(insert(AuditEntryRow), [entry])


async def read_audit_log(
    database: Database, account: str | None, *, before: int | None = None, limit: int = 100
) -> Sequence[AuditRecord]:
    """Return entries, newest first; of all accounts when `account` is None."""
    query = select(*ENTRY).order_by(LOG.c.id.desc()).limit(limit)
    if account is not None:
        query = query.where(LOG.c.account_id == account)
    if before is not None:
        query = query.where(LOG.c.id < before)
    async with database.read() as connection:
        return [AuditRecord(*row) for row in await connection.execute(query)]
