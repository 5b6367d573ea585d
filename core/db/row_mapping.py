"""Reads rows into frozen dataclasses: the fields of a class name the columns of a table.

Invariant: columns are selected in the order of the fields, so that `record(*row)` is right.
"""

from dataclasses import fields
from typing import Any

from sqlalchemy import ColumnElement, Table


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
