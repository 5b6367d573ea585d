"""Writes the audit log, in the transaction of the change itself."""

from typing import Any

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from core.db.tables.audit import AuditEntryRow


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
