"""A row of the ledger as one line of CSV, put together by the database.

Invariant: PostgreSQL and SQLite write the same bytes for the same event.
"""

from collections.abc import Iterable
from functools import reduce
from typing import Any

from sqlalchemy import BigInteger, Boolean, ColumnElement, String, case, func, literal, type_coerce

from billing.exports.content import EVENTS
from billing.tables.types import Money, UtcTime

#: A spreadsheet computes what begins so.
FORMULA = ("=", "+", "-", "@", "\t", "\r")

#: Texts that people choose; those that are ours need no quotes.
CHOSEN = ("account_id", "key_id", "model")


def csv_line(names: Iterable[str], *, sqlite: bool) -> ColumnElement[str]:
    """Return the expression of a line, without its end."""
    write = _write_sqlite if sqlite else _write_postgresql
    cells: list[ColumnElement[Any]] = []
    for name in names:
        column = EVENTS.c[name]
        cells += [literal(","), _quoted(column) if name in CHOSEN else write(column)]
    del cells[0]
    if sqlite:
        filled = [func.coalesce(cell, "") for cell in cells]
        return reduce(lambda line, cell: line.op("||")(cell), filled)
    return func.concat(*cells)


def _quoted(column: ColumnElement[Any]) -> ColumnElement[Any]:
    doubled = func.replace(column, '"', '""')
    harmless = case(
        (func.substr(column, 1, 1).in_(FORMULA), literal("'").concat(doubled)), else_=doubled
    )
    return literal('"').concat(harmless).concat('"')


def _write_postgresql(column: ColumnElement[Any]) -> ColumnElement[Any]:
    if isinstance(column.type, UtcTime):
        local = func.timezone("UTC", column)
        return func.to_char(local, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    return _write_bool(column)


def _write_sqlite(column: ColumnElement[Any]) -> ColumnElement[Any]:
    if isinstance(column.type, UtcTime):
        return func.replace(type_coerce(column, String), " ", "T").concat("Z")
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
