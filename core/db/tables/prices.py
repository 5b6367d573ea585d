"""Token prices and hourly GPU rates. Rows are only added (triggers refuse other changes)."""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from core.db.tables.base import Base, Currency, Id, Name, Serial, Word, now
from core.db.tables.types import Money

#: Decimals of a service tier's multiplier.
MULTIPLIER_DECIMALS = 2


class PriceVersion(Base):
    """A model's prices from `valid_from` until the next version's `valid_from`.

    `prices` has the default tier's prices; the other tiers multiply them.
    """

    __tablename__ = "price_versions"
    __table_args__ = (
        UniqueConstraint("model", "valid_from"),
        CheckConstraint("priority_multiplier >= 0 AND flex_multiplier >= 0", "multipliers"),
    )

    id: Mapped[Id] = mapped_column(primary_key=True)
    model: Mapped[Name]
    currency: Mapped[Currency]
    valid_from: Mapped[datetime]
    priority_multiplier: Mapped[Decimal] = mapped_column(Money(MULTIPLIER_DECIMALS))
    flex_multiplier: Mapped[Decimal] = mapped_column(Money(MULTIPLIER_DECIMALS))
    created_at: Mapped[datetime] = mapped_column(default=now)
    created_by: Mapped[Name] = mapped_column(default="")


class PriceRow(Base):
    """The price of a million tokens of one kind: input, cached_input or output."""

    __tablename__ = "prices"
    __table_args__ = (
        CheckConstraint("per_million >= 0", "not_negative"),
        CheckConstraint("kind IN ('input', 'cached_input', 'output')", "kind"),
    )

    version_id: Mapped[Id] = mapped_column(ForeignKey("price_versions.id"), primary_key=True)
    kind: Mapped[Word] = mapped_column(primary_key=True)
    per_million: Mapped[Decimal]


class GpuRateRow(Base):
    """What one worker's GPUs cost per hour from `valid_from` on; it runs `slots` jobs at a time.

    Margins use it; invoices do not.
    """

    __tablename__ = "gpu_rates"
    __table_args__ = (
        UniqueConstraint("model", "valid_from"),
        CheckConstraint("per_hour >= 0", "not_negative"),
    )

    id: Mapped[Serial]
    model: Mapped[Name]
    gpu: Mapped[Name]
    per_hour: Mapped[Decimal]
    slots: Mapped[int] = mapped_column(server_default="1")
    currency: Mapped[Currency]
    valid_from: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(default=now)
    created_by: Mapped[Name] = mapped_column(default="")
