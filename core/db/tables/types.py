"""Column types that mean the same on PostgreSQL and SQLite.

Invariant: what is read back equals what was written. A number with more decimals than the
column keeps is an error and never rounded, and a time without a time zone is refused.
"""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import BigInteger, DateTime, Numeric
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator, TypeEngine

#: Decimals of a price per million tokens, and of every rounded amount: micros.
MICROS = 6

#: Decimals of an exact amount: a token count times a price per million times a multiplier.
EXACT = 14

#: Decimals of what budgets count as spent.
NANOS = 9

#: Digits before the point that fit every column.
WHOLE_DIGITS = 16

#: The largest integer SQLite keeps; beyond it numbers turn into floats without a word.
LARGEST_INTEGER = 2**63 - 1


class Money(TypeDecorator[Decimal]):
    """A Decimal of fixed scale: NUMERIC on PostgreSQL, a scaled integer on SQLite.

    SQLite keeps decimals as floats. Integers it adds exactly; `sum()` reports an overflow, a `+`
    does not.
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
        """Check that nothing would be rounded, and that it fits."""
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
    """An instant, always read back in UTC; SQLite has no time zones and keeps the UTC time."""

    impl = DateTime
    cache_ok = True

    def __init__(self) -> None:
        super().__init__(timezone=True)

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a time that does not say which instant it is."""
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
