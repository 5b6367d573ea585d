"""Inserts many rows in one statement and skips those that exist.

Invariant: an existing row is never changed, and no value is rounded. On PostgreSQL the rows travel
as one JSON document, which costs this process much less than binding each value.
"""

from collections.abc import Sequence
from typing import Any

import orjson
from sqlalchemy import Table, Text, bindparam, cast, column, func, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import TypeDecorator

Row = dict[str, Any]


async def insert_missing(connection: AsyncConnection, table: Table, rows: Sequence[Row]) -> int:
    """Insert rows that all have the same columns; returns how many were new."""
    if not rows:
        return 0
    counted = {"preserve_rowcount": True}
    values: Any
    if connection.dialect.name == "sqlite":
        statement = sqlite.insert(table).on_conflict_do_nothing()
        values = list(rows)
    else:
        statement = _from_json(table, tuple(rows[0]))
        checked = _checked(table, rows, connection.dialect)
        values = {"rows": orjson.dumps(checked, default=str).decode()}
    return (await connection.execute(statement, values, execution_options=counted)).rowcount


def _checked(table: Table, rows: Sequence[Row], dialect: Dialect) -> list[Row]:
    """Return the rows as the columns' own types bind them; otherwise the database would round."""
    types = ((name, table.c[name].type) for name in rows[0])
    own = [(name, kind) for name, kind in types if isinstance(kind, TypeDecorator)]
    return [
        row | {name: kind.process_bind_param(row[name], dialect) for name, kind in own}
        for row in rows
    ]


def _from_json(table: Table, names: tuple[str, ...]) -> Any:
    columns = [column(name, table.c[name].type) for name in names]
    document = cast(bindparam("rows", type_=Text), postgresql.JSON)
    records = (
        func.json_to_recordset(document).table_valued(*columns).render_derived(with_types=True)
    )
    source = select(*(records.c[name] for name in names))
    return postgresql.insert(table).from_select(names, source).on_conflict_do_nothing()
