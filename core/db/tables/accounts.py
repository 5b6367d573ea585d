"""Accounts, their users, API keys and sessions. Secrets are stored only as hashes.

`changed_at` tells the cache in Redis which rows to copy again.
"""

from datetime import datetime

from sqlalchemy import JSON, ForeignKey, Index, String, Text, false, text
from sqlalchemy.orm import Mapped, mapped_column

from core.db.tables.base import Base, Currency, Id, Name, Serial, Word, now

ZERO = text("0")


class AccountRow(Base):
    """Who pays. Tax fields are copied to invoices; nothing is computed from them.

    The row of a deleted account stays, since invoices and adjustments name it.
    """

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
    deleted_at: Mapped[datetime | None]
    requests_per_minute: Mapped[int] = mapped_column(default=0, server_default=ZERO)
    tokens_per_minute: Mapped[int] = mapped_column(default=0, server_default=ZERO)
    max_running: Mapped[int] = mapped_column(default=0, server_default=ZERO)
    max_queued: Mapped[int] = mapped_column(default=0, server_default=ZERO)
    changed_at: Mapped[datetime | None] = mapped_column(default=now, onupdate=now, index=True)


class UserRow(Base):
    """A person. `operator` is above the roles; a new `session` number ends all earlier sessions.

    Scopes and limits are bounds of the person and of all keys of the person; null and 0 are none.
    """

    __tablename__ = "users"

    id: Mapped[Id] = mapped_column(primary_key=True)
    account_id: Mapped[Id] = mapped_column(ForeignKey("accounts.id"), index=True)
    email: Mapped[str] = mapped_column(String(320), unique=True)
    role: Mapped[Word]
    password_hash: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now)
    disabled_at: Mapped[datetime | None]
    operator: Mapped[bool] = mapped_column(default=False, server_default=false())
    session: Mapped[int] = mapped_column(default=0, server_default=ZERO)
    models: Mapped[list[str] | None] = mapped_column(JSON)
    routes: Mapped[list[str] | None] = mapped_column(JSON)
    networks: Mapped[list[str] | None] = mapped_column(JSON)
    requests_per_minute: Mapped[int] = mapped_column(default=0, server_default=ZERO)
    tokens_per_minute: Mapped[int] = mapped_column(default=0, server_default=ZERO)
    max_running: Mapped[int] = mapped_column(default=0, server_default=ZERO)
    max_queued: Mapped[int] = mapped_column(default=0, server_default=ZERO)
    changed_at: Mapped[datetime | None] = mapped_column(default=now, onupdate=now, index=True)


class ApiKeyRow(Base):
    """An API key; null lists allow everything. `admin` makes it a key of the operator.

    `prefix` is the start of the key: it is shown, and keys are searched by it. `origin_id` is the
    first key of a chain of rotations; its budget and limits are those of the whole chain. `set_by`
    has the rank of the caller who set a bound, by the name of its column; null: none was set from
    above the key's own user.
    """

    __tablename__ = "api_keys"
    __table_args__ = (Index(None, "account_id", "prefix"),)

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
    prefix: Mapped[str | None] = mapped_column(String(16))
    role: Mapped[Word] = mapped_column(default="member", server_default="member")
    networks: Mapped[list[str] | None] = mapped_column(JSON)
    requests_per_minute: Mapped[int] = mapped_column(default=0, server_default=ZERO)
    tokens_per_minute: Mapped[int] = mapped_column(default=0, server_default=ZERO)
    max_queued: Mapped[int] = mapped_column(default=0, server_default=ZERO)
    rotated_from: Mapped[Id | None]
    origin_id: Mapped[Id | None]
    set_by: Mapped[dict[str, int] | None] = mapped_column(JSON)
    changed_at: Mapped[datetime | None] = mapped_column(default=now, onupdate=now, index=True)


class RefreshTokenRow(Base):
    """A refresh token, which is used once; the tokens of one sign-in form a `family`."""

    __tablename__ = "refresh_tokens"

    id: Mapped[Serial]
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    family: Mapped[Id] = mapped_column(index=True)
    user_id: Mapped[Id] = mapped_column(ForeignKey("users.id"), index=True)
    session: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=now)
    expires_at: Mapped[datetime] = mapped_column(index=True)
    used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
