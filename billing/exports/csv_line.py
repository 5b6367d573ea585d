"""A row of the ledger as one line of CSV, formatted by the database.

Invariant: PostgreSQL and SQLite produce the same bytes for the same event.
"""

from collections.abc import Iterable
from functools import reduce
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    String,
    Text,
    and_,
    case,
    cast,
    func,
    literal,
    type_coerce,
)

from billing.exports.content import EVENTS
from billing.sums import bytewise
from core.db.tables.types import Money, UtcTime

#: A spreadsheet evaluates text that starts with one of these; some take the fullwidth forms, too.
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")

#: Columns whose text clients or operators choose; ids and statuses of ours need no quotes.
QUOTED = ("account_id", "key_id", "model")


def csv_line(names: Iterable[str], *, sqlite: bool) -> ColumnElement[str]:
    """Return the SQL expression of a line, without the line feed."""
    write = _write_sqlite if sqlite else _write_postgresql
    parts: list[ColumnElement[Any]] = []
    between = ""
    for name in names:
        column, quote = EVENTS.c[name], '"' if name in QUOTED else ""
        value = _harmless(column, sqlite=sqlite) if quote else write(column)
        parts += [literal(between + quote), value]
        between = f"{quote},"
    if sqlite:
        filled = [func.coalesce(part, "") for part in parts]
        return reduce(lambda line, part: line.op("||")(part), filled)
    return func.concat(*parts)


def harmless(text: str) -> str:
    """Return text as a cell that a spreadsheet does not evaluate."""
    return f"'{text}" if text.startswith(FORMULA) else text


def _harmless(column: ColumnElement[Any], *, sqlite: bool) -> ColumnElement[Any]:
    """Return text that is safe between quotes; most text is safe unchanged."""
    doubled = func.replace(column, '"', '""')
    found = func.instr(column, '"') if sqlite else func.strpos(column, '"')
    return case(
        # Every character that starts a formula sorts before or after the letters of ASCII.
        (and_(bytewise(column) >= "A", bytewise(column) < "\x7f", found == 0), column),
        (func.substr(column, 1, 1).in_(FORMULA), literal("'").concat(doubled)),
        else_=doubled,
    )


def _write_postgresql(column: ColumnElement[Any]) -> ColumnElement[Any]:
    if isinstance(column.type, UtcTime):
        # A pooler may drop the connection's time zone; `to_char` costs four times this.
        return func.replace(cast(func.timezone("UTC", column), Text), " ", "T").concat("Z")
    return _write_bool(column)


def _write_sqlite(column: ColumnElement[Any]) -> ColumnElement[Any]:
    if isinstance(column.type, UtcTime):
        trimmed = func.rtrim(func.rtrim(type_coerce(column, String), "0"), ".")
        return func.replace(trimmed, " ", "T").concat("Z")
    if isinstance(column.type, Money):
        scale = column.type.scale
        number = type_coerce(column, BigInteger)
        whole, rest = number.op("/")(10**scale), number.op("%")(10**scale)
        return case((column.is_(None), None), else_=func.printf(f"%d.%0{scale}d", whole, rest))
    return _write_bool(column)


def _write_bool(column: ColumnElement[Any]) -> ColumnElement[Any]:
    if isinstance(column.type, Boolean):
        return case((column, "true"), else_="false")
    return column
