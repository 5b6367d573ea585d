"""Reads rows into frozen dataclasses: the fields of a class name the columns of a table.

Invariant: columns are selected in the order of the fields, so that `record(*row)` is right. A row
of a join is read by `parts_of`.
"""

from collections.abc import Sequence
from dataclasses import fields
from itertools import islice
from typing import Any, TypeVar, overload

from sqlalchemy import ColumnElement, Table

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")


def columns_of(table: Table, record: type, **renamed: str) -> list[ColumnElement[Any]]:
    """Return the columns to select for a record.

    Args:
        table: The table to select from.
        record: A dataclass; each of its fields is a column of the table.
        renamed: Field name -> column name, for fields that have another name than their column.

    Raises:
        KeyError: a field names no column.
    """
    names = [field.name for field in fields(record)]
    return [
        table.c[renamed[name]].label(name) if name in renamed else table.c[name] for name in names
    ]


@overload
def parts_of(row: Sequence[Any], first: type[A], second: type[B], /) -> tuple[A, B]: ...
@overload
def parts_of(
    row: Sequence[Any], first: type[A], second: type[B], third: type[C], /
) -> tuple[A, B, C]: ...
def parts_of(row: Sequence[Any], *records: Any) -> tuple[Any, ...]:
    """Return the records that a row of a join consists of.

    Args:
        row: A row of `columns_of` each record, in the order of `records`.
        records: Dataclasses.
    """
    values = iter(row)
    return tuple(record(*islice(values, len(fields(record)))) for record in records)
