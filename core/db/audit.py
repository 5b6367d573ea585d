"""Writes down who changed what, in the transaction that changes it."""

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
    """Add one entry, of an account where it concerns one; `details` hold no secrets, no prompts."""
    entry = {
        "actor": actor,
        "action": action,
        "target": target,
        "account_id": account,
        "details": details,
    }
    await connection.execute(insert(AuditEntryRow), [entry])
