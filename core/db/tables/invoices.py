"""Adjustments, closed months, invoices and exports.

Invariant (triggers): an issued invoice and its lines never change, nor does an adjustment.
"""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    Index,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from core.db.tables.base import Base, Currency, Id, JsonText, Month, Name, Serial, Word, now
from core.db.tables.prices import MULTIPLIER_DECIMALS
from core.db.tables.types import Money


class AdjustmentRow(Base):
    """A credit (negative) or a charge (positive) for one month, with its reason."""

    __tablename__ = "adjustments"
    __table_args__ = (
        CheckConstraint("amount <> 0", "not_zero"),
        Index(None, "month", "account_id"),
    )

    id: Mapped[Id] = mapped_column(primary_key=True)
    account_id: Mapped[Id] = mapped_column(ForeignKey("accounts.id"))
    month: Mapped[Month]
    amount: Mapped[Decimal]
    currency: Mapped[Currency]
    reason: Mapped[str] = mapped_column(Text)
    job_id: Mapped[Id | None]
    created_at: Mapped[datetime] = mapped_column(default=now)
    created_by: Mapped[Name] = mapped_column(default="")


class ClosedMonthRow(Base):
    """A month that accepts no more usage; late usage belongs to the first open month."""

    __tablename__ = "closed_months"

    month: Mapped[Month] = mapped_column(primary_key=True)
    closed_at: Mapped[datetime] = mapped_column(default=now)
    closed_by: Mapped[Name] = mapped_column(default="")


class InvoiceRow(Base):
    """An account's invoice for a month and currency, or a credit note that corrects one."""

    __tablename__ = "invoices"
    __table_args__ = (
        CheckConstraint("kind IN ('invoice', 'credit_note')", "kind"),
        Index(
            "uq_invoices_month",
            "account_id",
            "month",
            "currency",
            unique=True,
            postgresql_where=text("kind = 'invoice'"),
            sqlite_where=text("kind = 'invoice'"),
        ),
    )

    id: Mapped[Id] = mapped_column(primary_key=True)
    number: Mapped[Id] = mapped_column(unique=True)
    kind: Mapped[Word] = mapped_column(default="invoice")
    corrects_id: Mapped[Id | None] = mapped_column(ForeignKey("invoices.id"))
    account_id: Mapped[Id]
    month: Mapped[Month]
    currency: Mapped[Currency]
    billing_name: Mapped[str] = mapped_column(Text, default="")
    billing_address: Mapped[str] = mapped_column(Text, default="")
    tax_id: Mapped[Name] = mapped_column(default="")
    tax_note: Mapped[str] = mapped_column(Text, default="")
    #: `SellerSettings` at the time of issue, as JSON.
    seller: Mapped[JsonText] = mapped_column(default="{}")
    total: Mapped[Decimal]
    created_at: Mapped[datetime] = mapped_column(default=now)
    issued_at: Mapped[datetime | None]


class InvoiceLineRow(Base):
    """One line: usage of one model, tier, kind of token and price, or an adjustment.

    A usage line covers the events of the invoice's account and month that share these values.
    """

    __tablename__ = "invoice_lines"
    __table_args__ = (
        UniqueConstraint("invoice_id", "position"),
        CheckConstraint("kind IN ('usage', 'adjustment')", "kind"),
    )

    id: Mapped[Serial]
    invoice_id: Mapped[Id] = mapped_column(ForeignKey("invoices.id"))
    position: Mapped[int]
    kind: Mapped[Word]
    description: Mapped[str] = mapped_column(Text, default="")
    model: Mapped[Name | None]
    service_tier: Mapped[Word | None]
    token_kind: Mapped[Word | None]
    price_version_id: Mapped[Id | None]
    multiplier: Mapped[Decimal | None] = mapped_column(Money(MULTIPLIER_DECIMALS))
    per_million: Mapped[Decimal | None]
    late: Mapped[bool] = mapped_column(default=False)
    jobs: Mapped[int] = mapped_column(default=0)
    tokens: Mapped[int] = mapped_column(default=0)
    amount: Mapped[Decimal]
    adjustment_id: Mapped[Id | None] = mapped_column(ForeignKey("adjustments.id"))


class ExportRow(Base):
    """A file that was exported for a month."""

    __tablename__ = "exports"

    id: Mapped[Id] = mapped_column(primary_key=True)
    month: Mapped[Month] = mapped_column(index=True)
    account_id: Mapped[Id | None]
    name: Mapped[str] = mapped_column(Text)
    format: Mapped[Word]
    sha256: Mapped[str] = mapped_column(String(64))
    size_bytes: Mapped[int]
    rows: Mapped[int]
    created_at: Mapped[datetime] = mapped_column(default=now)
    created_by: Mapped[Name] = mapped_column(default="")
