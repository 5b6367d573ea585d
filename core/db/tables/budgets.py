"""Budgets, amounts spent, and warnings that were sent.

Invariant (triggers): `spending` is the sum of the ledger's costs, each rounded up to nanos; the
statement that adds usage updates it.
"""

from datetime import datetime
from decimal import Decimal

from sqlalchemy import JSON, CheckConstraint, ForeignKey, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from core.db.tables.base import Base, Currency, Id, Month, Serial, SpentAmount, Word, now


class BudgetRow(Base):
    """The most that an account may spend in a month, or one of its keys if `key_id` is not ''.

    A hard budget refuses jobs; `when_unknown` says what happens while it cannot be checked.
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
    """What one key's jobs cost in the month that bills them; maintained by triggers."""

    __tablename__ = "spending"
    __table_args__ = (
        # SQLite turns a sum that overflows its integers into a float: refuse it instead.
        CheckConstraint("typeof(amount) = 'integer'", "exact").ddl_if(dialect="sqlite"),
    )

    account_id: Mapped[Id] = mapped_column(primary_key=True)
    month: Mapped[Month] = mapped_column(primary_key=True)
    currency: Mapped[Currency] = mapped_column(primary_key=True)
    key_id: Mapped[Id] = mapped_column(primary_key=True)
    amount: Mapped[SpentAmount]


class BudgetWarningRow(Base):
    """A percentage of a budget that was reached in a month; each is warned of once."""

    __tablename__ = "budget_warnings"
    __table_args__ = (UniqueConstraint("budget_id", "month", "percent"),)

    id: Mapped[Serial]
    budget_id: Mapped[Id]
    month: Mapped[Month]
    percent: Mapped[int]
    spent: Mapped[SpentAmount]
    at: Mapped[datetime] = mapped_column(default=now)
