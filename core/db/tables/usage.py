"""The ledger: a usage event per job, the archive of results, and entries that were set aside.

There are no foreign keys: a job that ran is recorded even if its account is unknown.
"""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import CheckConstraint, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from core.db.tables.base import Base, Currency, ExactAmount, Id, JsonText, Month, Name, Serial, Word
from core.db.tables.base import now as _now
from core.db.tables.prices import MULTIPLIER_DECIMALS
from core.db.tables.types import Money


class UsageEventRow(Base):
    """What one job used and what of it is charged. It never changes, but may be priced once.

    `month` is the month that bills it: that of `finished_at`, or for late usage the first month
    that was still open. Amounts are exact; they are rounded once, on the invoice line. `weights` is
    the digest of the weights of the last attempt: empty if there was none, null if the event was
    recorded before the column existed. `vectors` counts the delivered vectors of an embedding
    request, null as for `weights`.
    """

    __tablename__ = "usage_events"
    __table_args__ = (
        CheckConstraint(
            "input_tokens >= 0 AND cached_tokens BETWEEN 0 AND input_tokens AND output_tokens >= 0",
            "tokens",
        ),
        CheckConstraint(
            "charged_input_tokens >= 0 AND charged_cached_tokens >= 0"
            " AND charged_input_tokens + charged_cached_tokens <= input_tokens"
            " AND charged_output_tokens BETWEEN 0 AND output_tokens",
            "charged",
        ),
        # The order of an export of a month, so that nothing has to be sorted.
        Index(None, "month", "job_id"),
        Index(None, "account_id", "finished_at", "job_id"),
        Index(
            "ix_usage_events_unpriced",
            "month",
            "model",
            postgresql_where=text("price_version_id IS NULL"),
            sqlite_where=text("price_version_id IS NULL"),
        ),
    )

    job_id: Mapped[Id] = mapped_column(primary_key=True)
    account_id: Mapped[Id]
    key_id: Mapped[Id]
    model: Mapped[Name]
    service_tier: Mapped[Word]
    status: Mapped[Word]
    attempt: Mapped[int]
    last_seq: Mapped[int]
    input_tokens: Mapped[int]
    cached_tokens: Mapped[int]
    output_tokens: Mapped[int]
    run_ms: Mapped[int]
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime]
    recorded_at: Mapped[datetime]
    month: Mapped[Month]
    late: Mapped[bool]
    charged_input_tokens: Mapped[int]
    charged_cached_tokens: Mapped[int]
    charged_output_tokens: Mapped[int]
    price_version_id: Mapped[Id | None]
    currency: Mapped[Currency | None]
    multiplier: Mapped[Decimal | None] = mapped_column(Money(MULTIPLIER_DECIMALS))
    input_amount: Mapped[ExactAmount | None]
    cached_amount: Mapped[ExactAmount | None]
    output_amount: Mapped[ExactAmount | None]
    weights: Mapped[Id | None]
    vectors: Mapped[int | None]


class ArchivedJobRow(Base):
    """A finished job that clients can read when Redis no longer has it; without the prompt.

    `record` is the job's record without its body; `result` is what it produced (`jobs.result`).
    """

    __tablename__ = "archived_jobs"
    __table_args__ = (Index(None, "finished_at"),)

    job_id: Mapped[Id] = mapped_column(primary_key=True)
    account_id: Mapped[Id]
    finished_at: Mapped[datetime]
    record: Mapped[JsonText]
    result: Mapped[JsonText]


class SetAsideEntryRow(Base):
    """An outbox entry that could not be recorded, with the reason, for an operator to review."""

    __tablename__ = "set_aside_entries"

    id: Mapped[Serial]
    entry_id: Mapped[str] = mapped_column(String(64), unique=True)
    fields: Mapped[JsonText]
    reason: Mapped[str] = mapped_column(Text)
    set_aside_at: Mapped[datetime] = mapped_column(default=_now)
    resolved_at: Mapped[datetime | None]
