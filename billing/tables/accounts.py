"""Accounts, who acts for them, and their keys. Only hashes of secrets are stored."""

from datetime import datetime

from sqlalchemy import JSON, ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from billing.tables.base import Base, Currency, Id, Name, Word, now


class Account(Base):
    """Who pays. The tax fields are carried through to invoices; nothing is computed from them."""

    __tablename__ = "accounts"

    id: Mapped[Id] = mapped_column(primary_key=True)
    name: Mapped[Name] = mapped_column(default="")
    currency: Mapped[Currency] = mapped_column(default="USD")
    billing_name: Mapped[str] = mapped_column(Text, default="")
    billing_address: Mapped[str] = mapped_column(Text, default="")
    billing_email: Mapped[str] = mapped_column(Text, default="")
    tax_id: Mapped[Name] = mapped_column(default="")
    tax_note: Mapped[str] = mapped_column(Text, default="")
    created_at: Mapped[datetime] = mapped_column(default=now)
    suspended_at: Mapped[datetime | None]


class User(Base):
    """A person; `role` is admin, member, billing or viewer."""

    __tablename__ = "users"

    id: Mapped[Id] = mapped_column(primary_key=True)
    account_id: Mapped[Id] = mapped_column(ForeignKey("accounts.id"), index=True)
    email: Mapped[str] = mapped_column(String(320), unique=True)
    role: Mapped[Word]
    password_hash: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now)
    disabled_at: Mapped[datetime | None]


class ApiKey(Base):
    """A key; null scopes mean everything."""

    __tablename__ = "api_keys"

    id: Mapped[Id] = mapped_column(primary_key=True)
    account_id: Mapped[Id] = mapped_column(ForeignKey("accounts.id"), index=True)
    user_id: Mapped[Id | None] = mapped_column(ForeignKey("users.id"))
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    name: Mapped[Name] = mapped_column(default="")
    models: Mapped[list[str] | None] = mapped_column(JSON)
    routes: Mapped[list[str] | None] = mapped_column(JSON)
    weight: Mapped[float] = mapped_column(default=1.0)
    max_running: Mapped[int] = mapped_column(default=0)
    admin: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
