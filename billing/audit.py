"""Writes down who changed what, in the transaction that changes it."""

from typing import Any

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.tables.audit import AuditEntry


async def audit(
    connection: AsyncConnection, actor: str, action: str, target: str, **details: Any
) -> None:
    """Add one entry; `details` hold no secrets and no prompts."""
    entry = {"actor": actor, "action": action, "target": target, "details": details}
    await connection.execute(insert(AuditEntry), [entry])
