"""The base of all tables: names of constraints, types by annotation, columns that recur."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, ClassVar, cast

from sqlalchemy import BigInteger, Integer, MetaData, String, Table, Text
from sqlalchemy.orm import DeclarativeBase, mapped_column

from core.db.tables.types import EXACT, NANOS, Money, UtcTime

#: An id that clients may see, such as `job_01a2…`.
Id = Annotated[str, mapped_column(String(64))]
#: A number that only orders rows. SQLite counts by itself only in an INTEGER.
Serial = Annotated[
    int,
    mapped_column(
        BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True
    ),
]
Name = Annotated[str, mapped_column(String(128))]
#: One word of a fixed list: status, tier, kind.
Word = Annotated[str, mapped_column(String(16))]
#: ISO 4217.
Currency = Annotated[str, mapped_column(String(3))]
#: A UTC month, `2026-11`.
Month = Annotated[str, mapped_column(String(7))]
#: An amount that was never rounded.
ExactAmount = Annotated[Decimal, mapped_column(Money(EXACT))]
#: What budgets count as spent: each job's cost, rounded up.
SpentAmount = Annotated[Decimal, mapped_column(Money(NANOS))]
#: JSON as it was written, not looked into by the database.
JsonText = Annotated[str, mapped_column(Text)]


def now() -> datetime:
    """Return the present instant."""
    return datetime.now(UTC)


class Base(DeclarativeBase):
    """All tables. Decimals without another type are amounts in micros."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar = {Decimal: Money(), datetime: UtcTime(), int: BigInteger}


def table_of(rows: type[Base]) -> Table:
    """Return a class's table, for statements over columns instead of objects."""
    return cast("Table", rows.__table__)
