"""SQL functions for exact sums of money, and an order of text that is the same in every database.

Invariant: a sum is exact, however large. SQLite keeps an amount as a scaled 64-bit integer, so
the high and low parts are added separately.
"""

from decimal import Decimal
from typing import Any

from sqlalchemy import Numeric, String
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.elements import SQLColumnExpression
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from billing.money import EXACT
from core.db.tables.types import EXACT as EXACT_DECIMALS
from core.db.tables.types import NANOS, Money

LOW = 10**9

#: One nano in units of an exact amount's scale.
NANO = 10 ** (EXACT_DECIMALS - NANOS)


class _ExactTotal(TypeDecorator[Decimal]):
    """Reads the result of `exact_sum`."""

    impl = Numeric
    cache_ok = True

    def __init__(self, scale: int) -> None:
        super().__init__()
        self.scale = scale

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Choose the type by database."""
        return dialect.type_descriptor(String() if dialect.name == "sqlite" else Numeric())

    def process_result_value(self, value: Any, dialect: Dialect) -> Decimal | None:
        """Join the high and the low part (SQLite), or return the number (PostgreSQL)."""
        if value is None or dialect.name != "sqlite":
            return None if value is None else Decimal(value)
        high, _, low = value.partition(":")
        return EXACT.scaleb(Decimal(int(high) * LOW + int(low)), -self.scale)


class exact_sum(FunctionElement[Decimal]):  # noqa: N801 - reads as SQL
    """The sum of a `Money` column; None over no rows."""

    inherit_cache = True

    def __init__(self, column: SQLColumnExpression[Any]) -> None:
        super().__init__(column)
        (amount,) = self.clauses
        assert isinstance(amount.type, Money)
        self.type = _ExactTotal(amount.type.scale)


@compiles(exact_sum)
def _sum(element: exact_sum, compiler: Any, **options: Any) -> str:
    return f"sum({compiler.process(element.clauses, **options)})"


@compiles(exact_sum, "sqlite")
def _sum_of_parts(element: exact_sum, compiler: Any, **options: Any) -> str:
    amount = compiler.process(element.clauses, **options)
    return f"(sum({amount} / {LOW}) || ':' || sum({amount} % {LOW}))"


class in_nanos(FunctionElement[Decimal]):  # noqa: N801 - reads as SQL
    """The sum of a row's exact amounts, rounded up to nanos (9 decimals), as budgets count it."""

    inherit_cache = True
    type = Money(NANOS)


@compiles(in_nanos)
def _rounded_up(element: in_nanos, compiler: Any, **options: Any) -> str:
    amounts = " + ".join(compiler.process(amount, **options) for amount in element.clauses)
    return f"(ceil(({amounts}) * {10**NANOS}) * 0.{1:0{NANOS}})"


@compiles(in_nanos, "sqlite")
def _parts_rounded_up(element: in_nanos, compiler: Any, **options: Any) -> str:
    amounts = [compiler.process(amount, **options) for amount in element.clauses]
    whole = " + ".join(f"{amount} / {NANO}" for amount in amounts)
    rest = " + ".join(f"{amount} % {NANO}" for amount in amounts)
    return f"({whole} + ({rest} + {NANO - 1}) / {NANO})"


class bytewise(FunctionElement[str]):  # noqa: N801 - reads as SQL
    """A text column to order by: byte order, whatever the database's collation."""

    inherit_cache = True
    type = String()


@compiles(bytewise)
def _bytewise(element: bytewise, compiler: Any, **options: Any) -> str:
    return f'{compiler.process(element.clauses, **options)} COLLATE "C"'


@compiles(bytewise, "sqlite")
def _bytewise_already(element: bytewise, compiler: Any, **options: Any) -> str:
    text: str = compiler.process(element.clauses, **options)
    return text
