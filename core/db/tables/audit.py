"""The audit log: who changed what. Rows are only added (triggers refuse other changes)."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Index, Text
from sqlalchemy.orm import Mapped, mapped_column

from core.db.tables.base import Base, Id, Name, Serial, now


class AuditEntryRow(Base):
    """One action of a person or a command; `details` contain no secrets and no prompts."""

    __tablename__ = "audit_log"
    __table_args__ = (Index(None, "at"), Index(None, "account_id", "id"))

    id: Mapped[Serial]
    at: Mapped[datetime] = mapped_column(default=now)
    actor: Mapped[Name]
    action: Mapped[Name]
    target: Mapped[str] = mapped_column(Text)
    account_id: Mapped[Id | None]
    details: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
