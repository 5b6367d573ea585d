"""The base class of all tables: constraint names, column types by annotation, recurring columns.

Rows come out of SQL typed, in one of three ways:

- `select(Model.a, Model.b)`: SQLAlchemy knows the types of up to ten mapped columns; unpack the row
  or pass it to a named tuple or dataclass, and mypy checks both.
- A whole table, `select(table_of(Model))`: `typed_row(Model, row)`, and mypy checks attributes.
- A join or more columns: a NamedTuple with a field per selected column, in that order.
"""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar, TypeVar, cast

from sqlalchemy import BigInteger, Integer, MetaData, Row, String, Table, Text
from sqlalchemy.orm import DeclarativeBase, mapped_column

from core.db.tables.types import EXACT, NANOS, Money, UtcTime

TableRow = TypeVar("TableRow", bound="Base")

#: An id that clients may see, such as `job_01a2…`.
Id = Annotated[str, mapped_column(String(64))]
#: A row number, used for order only. SQLite increments only an INTEGER column automatically.
Serial = Annotated[
    int,
    mapped_column(
        BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True
    ),
]
Name = Annotated[str, mapped_column(String(128))]
#: One word of a fixed list: status, tier, kind.
Word = Annotated[str, mapped_column(String(16))]
#: A currency code of ISO 4217.
Currency = Annotated[str, mapped_column(String(3))]
#: A UTC month, `2026-11`.
Month = Annotated[str, mapped_column(String(7))]
#: An exact amount: never rounded, 14 decimals.
ExactAmount = Annotated[Decimal, mapped_column(Money(EXACT))]
#: An amount that budgets count as spent: the sum of job costs, each rounded up to nanos.
SpentAmount = Annotated[Decimal, mapped_column(Money(NANOS))]
#: A JSON document kept as text; the database does not parse it.
JsonText = Annotated[str, mapped_column(Text)]


def now() -> datetime:
    """Return the current instant in UTC."""
    return datetime.now(UTC)


class Base(DeclarativeBase):
    """The base of all tables. A Decimal column without another type has 6 decimals."""

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
    """Return a class's table, for queries by columns."""
    return cast("Table", rows.__table__)


def typed_row(table: type[TableRow], row: Row[Any]) -> TableRow:
    """Return a row of all columns of a table, typed as its class, so that mypy checks attributes.

    Args:
        table: the class whose columns were selected; it only names the type.
        row: what the query returned. It is returned as it is: a read-only row of values.
    """
    _ = table
    return cast("TableRow", row)
