"""Column types that behave the same on PostgreSQL and SQLite.

Invariant: a value read equals the value written. A number with more decimals than its column is an
error and never rounded; a time without a time zone is refused.
"""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, DateTime, Numeric
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

#: Decimals of a price per million tokens and of every rounded amount (micros).
MICROS = 6

#: Decimals of an exact amount: tokens x price per million x multiplier / 1,000,000.
EXACT = 14

#: Decimals of amounts that budgets count as spent (nanos).
NANOS = 9

#: Digits before the decimal point, in every column.
WHOLE_DIGITS = 16

#: The largest integer of SQLite; it silently turns larger numbers into floats.
LARGEST_INTEGER = 2**63 - 1


class Money(TypeDecorator[Decimal]):
    """A Decimal of fixed scale: NUMERIC on PostgreSQL, a scaled integer on SQLite.

    SQLite has no decimals, only floats; integers it adds exactly. Its `sum()` reports an overflow,
    its `+` does not.
    """

    impl = Numeric
    cache_ok = True

    def __init__(self, scale: int = MICROS) -> None:
        super().__init__(WHOLE_DIGITS + scale, scale)
        self.scale = scale

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the type by database."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(BigInteger())
        return dialect.type_descriptor(Numeric(WHOLE_DIGITS + self.scale, self.scale))

    def process_bind_param(self, value: Decimal | None, dialect: Dialect) -> Any:
        """Check that the value fits without rounding."""
        if value is None:
            return None
        scaled = int(value.scaleb(self.scale))
        if Decimal(scaled).scaleb(-self.scale) != value:
            raise ValueError(f"{value} has more than {self.scale} decimals")
        if dialect.name != "sqlite":
            return value
        if abs(scaled) > LARGEST_INTEGER:
            raise ValueError(f"{value} is too large for a column with {self.scale} decimals")
        return scaled

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        """Return a Decimal of the column's scale."""
        if value is None:
            return None
        if dialect.name == "sqlite":
            return Decimal(int(value)).scaleb(-self.scale)
        return Decimal(value)


class UtcTime(TypeDecorator[datetime]):
    """An instant, always read in UTC. SQLite has no time zones and stores the UTC time."""

    impl = DateTime
    cache_ok = True

    def __init__(self) -> None:
        super().__init__(timezone=True)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a time without a time zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value} has no time zone")
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Return it in UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if dialect.name == "sqlite" else value.astimezone(UTC)
