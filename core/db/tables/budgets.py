"""What may be spent, what is spent, and who was warned.

Invariant (triggers): `spending` is the sum of what the ledger's jobs cost, each rounded up to
billionths, changed by the very statement that adds usage.
"""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import JSON, CheckConstraint, ForeignKey, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from core.db.tables.base import Base, Currency, Id, Month, Serial, SpentAmount, Word, now


class BudgetRow(Base):
    """The most an account, or one of its keys, may spend in a month; `key_id` '' is the account.

    A hard one refuses; `when_unknown` says what happens while it cannot be checked.
    """

    __tablename__ = "budgets"
    __table_args__ = (
        UniqueConstraint("account_id", "key_id"),
        CheckConstraint("amount >= 0", "not_negative"),
        CheckConstraint("when_unknown IN ('refuse', 'allow')", "when_unknown"),
    )

    id: Mapped[Id] = mapped_column(primary_key=True)
    account_id: Mapped[Id] = mapped_column(ForeignKey("accounts.id"))
    key_id: Mapped[Id] = mapped_column(default="")
    amount: Mapped[Decimal]
    currency: Mapped[Currency]
    hard: Mapped[bool] = mapped_column(default=True)
    when_unknown: Mapped[Word] = mapped_column(default="refuse")
    warn_percents: Mapped[list[int]] = mapped_column(JSON, default=lambda: [50, 80, 100])
    webhook: Mapped[str | None] = mapped_column(Text)
    webhook_secret: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(default=now)
    changed_at: Mapped[datetime] = mapped_column(default=now, onupdate=now)


class SpendingRow(Base):
    """What the jobs of one key cost in a month they are billed in; kept by triggers."""

    __tablename__ = "spending"
    __table_args__ = (
        # A sum that outgrows SQLite's integers is refused instead of turned into a float.
        CheckConstraint("typeof(amount) = 'integer'", "exact").ddl_if(dialect="sqlite"),
    )

    account_id: Mapped[Id] = mapped_column(primary_key=True)
    month: Mapped[Month] = mapped_column(primary_key=True)
    currency: Mapped[Currency] = mapped_column(primary_key=True)
    key_id: Mapped[Id] = mapped_column(primary_key=True)
    amount: Mapped[SpentAmount]


class BudgetWarningRow(Base):
    """A budget reached a percentage in a month; said once."""

    __tablename__ = "budget_warnings"
    __table_args__ = (UniqueConstraint("budget_id", "month", "percent"),)

    id: Mapped[Serial]
    budget_id: Mapped[Id]
    month: Mapped[Month]
    percent: Mapped[int]
    spent: Mapped[SpentAmount]
    at: Mapped[datetime] = mapped_column(default=now)
