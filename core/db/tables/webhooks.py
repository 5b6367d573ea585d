"""Webhook endpoints, secrets, events, deliveries and their attempts.

Invariant: an event has one delivery per receiver, whose id and body stay the same in every attempt.
Secrets are stored readable, since each attempt is signed with one.
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
    """A URL that gets an account's events; an empty list of events means all types."""

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
    #: The time of the first failure after the last success.
    failing_since: Mapped[datetime | None]
    disabled_at: Mapped[datetime | None]
    disabled_why: Mapped[Name] = mapped_column(default="")


class WebhookSecretRow(Base):
    """The secret that signs an account's deliveries to the URLs of its jobs."""

    __tablename__ = "webhook_secrets"

    account_id: Mapped[Id] = mapped_column(primary_key=True)
    secret: Mapped[str] = mapped_column(Text)
    previous_secret: Mapped[str | None] = mapped_column(Text)
    previous_until: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=now)


class WebhookEventRow(Base):
    """An event and the exact text that is sent; its id is sent as `webhook-id`."""

    __tablename__ = "webhook_events"
    __table_args__ = (Index(None, "created_at"),)

    id: Mapped[Id] = mapped_column(primary_key=True)
    account_id: Mapped[Id]
    type: Mapped[str] = mapped_column(String(64))
    payload: Mapped[JsonText]
    created_at: Mapped[datetime] = mapped_column(default=now)


class WebhookDeliveryRow(Base):
    """One event for one receiver.

    `target` is an endpoint's id, a budget's id, or '' for the job's own `url`. `due_at` is when the
    next attempt is due; null once the event is delivered or given up. Until `ticket_until` it needs
    no other ticket; until `taken_until` a process has claimed it.
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
    #: Host and port of the URL; concurrency is limited per host.
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
    """One attempt: the status that was answered, or the failure. Response bodies are not stored."""

    __tablename__ = "webhook_attempts"

    id: Mapped[Serial]
    delivery_id: Mapped[Id] = mapped_column(
        ForeignKey("webhook_deliveries.id", ondelete="CASCADE"), index=True
    )
    at: Mapped[datetime] = mapped_column(default=now)
    status: Mapped[int | None]
    milliseconds: Mapped[int]
    failure: Mapped[Name] = mapped_column(default="")
