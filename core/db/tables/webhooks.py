"""Who is told what happened, what happened, and how telling them went.

Invariant: an event is told to each receiver by one delivery, whose id and body stay the same
however often it is tried. Secrets are kept readable, since each delivery is signed with one.
"""

from datetime import datetime

from sqlalchemy import (
    JSON,
    CheckConstraint,
    ForeignKey,
    Index,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from core.db.tables.base import Base, Id, JsonText, Name, Serial, Word, now


class WebhookEndpointRow(Base):
    """A URL of an account that hears of its events; an empty filter means all of them."""

    __tablename__ = "webhook_endpoints"

    id: Mapped[Id] = mapped_column(primary_key=True)
    account_id: Mapped[Id] = mapped_column(index=True)
    url: Mapped[str] = mapped_column(Text)
    events: Mapped[list[str]] = mapped_column(JSON, default=list)
    description: Mapped[str] = mapped_column(Text, default="")
    secret: Mapped[str] = mapped_column(Text)
    previous_secret: Mapped[str | None] = mapped_column(Text)
    previous_until: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    #: Of the first failure after the last success.
    failing_since: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]
    disabled_why: Mapped[Name] = mapped_column(default="")


class WebhookSecretRow(Base):
    """What an account's deliveries to the URLs of its jobs are signed with."""

    __tablename__ = "webhook_secrets"

    account_id: Mapped[Id] = mapped_column(primary_key=True)
    secret: Mapped[str] = mapped_column(Text)
    previous_secret: Mapped[str | None] = mapped_column(Text)
    previous_until: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now)


class WebhookEventRow(Base):
    """What happened, and the very text that is sent; its id is the `webhook-id`."""

    __tablename__ = "webhook_events"
    __table_args__ = (Index(None, "created_at"),)

    id: Mapped[Id] = mapped_column(primary_key=True)
    account_id: Mapped[Id]
    type: Mapped[str] = mapped_column(String(64))
    payload: Mapped[JsonText]
    created_at: Mapped[datetime] = mapped_column(default=now)


class WebhookDeliveryRow(Base):
    """One event on its way to one receiver.

    `target` is an endpoint, a budget, or '' for the job's own `url`. `due_at` is when it is tried
    next, null once it is delivered or given up. Until `ticket_until` it needs no other ticket,
    until `taken_until` somebody is trying it.
    """

    __tablename__ = "webhook_deliveries"
    __table_args__ = (
        UniqueConstraint("event_id", "target"),
        CheckConstraint("state IN ('pending', 'delivered', 'failed')", "state"),
        CheckConstraint("(state = 'pending') = (due_at IS NOT NULL)", "due"),
        Index(None, "account_id", "id"),
        Index(None, "target", "id"),
        Index(
            "ix_webhook_deliveries_due",
            "due_at",
            postgresql_where=text("due_at IS NOT NULL"),
            sqlite_where=text("due_at IS NOT NULL"),
        ),
    )

    id: Mapped[Id] = mapped_column(primary_key=True)
    event_id: Mapped[Id] = mapped_column(ForeignKey("webhook_events.id", ondelete="CASCADE"))
    account_id: Mapped[Id]
    target: Mapped[Id] = mapped_column(default="")
    url: Mapped[str] = mapped_column(Text)
    #: Host and port of the URL: deliveries to one never wait for those to another.
    host: Mapped[str] = mapped_column(Text)
    state: Mapped[Word] = mapped_column(default="pending")
    attempts: Mapped[int] = mapped_column(default=0)
    due_at: Mapped[datetime | None]
    ticket_until: Mapped[datetime | None]
    taken_until: Mapped[datetime | None]
    failure: Mapped[Name] = mapped_column(default="")
    created_at: Mapped[datetime] = mapped_column(default=now)
    done_at: Mapped[datetime | None]


class WebhookAttemptRow(Base):
    """One try: what the receiver answered, or why it could not. Its answer's body is not kept."""

    __tablename__ = "webhook_attempts"

    id: Mapped[Serial]
    delivery_id: Mapped[Id] = mapped_column(
        ForeignKey("webhook_deliveries.id", ondelete="CASCADE"), index=True
    )
    at: Mapped[datetime] = mapped_column(default=now)
    status: Mapped[int | None]
    milliseconds: Mapped[int]
    failure: Mapped[Name] = mapped_column(default="")
