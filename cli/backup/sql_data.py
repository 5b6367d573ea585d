"""Copies every table out of SQL and into another database, SQLite or PostgreSQL.

Invariant: all tables are read in one snapshot, and written in one transaction: either all rows are
there or none. `spending` is not copied: the triggers of the ledger make it anew.
"""

import base64
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    Integer,
    LargeBinary,
    String,
    Table,
    func,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from cli.backup.backup_set import SetWriter, in_groups
from core.db.database import Database
from core.db.tables.base import table_of
from core.db.tables.budgets import SpendingRow
from core.db.tables.invoices import ClosedMonthRow, InvoiceRow
from core.db.tables.metadata import metadata
from core.db.tables.types import Money, UtcTime

ROWS_AT_ONCE = 500
INVOICES = table_of(InvoiceRow)

CLOSED_MONTHS = table_of(ClosedMonthRow)

#: In the order in which rows may be added: nothing is added to a month once it is closed.
TABLES = (
    *(
        table
        for table in metadata.sorted_tables
        if table not in (table_of(SpendingRow), CLOSED_MONTHS)
    ),
    CLOSED_MONTHS,
)


#: Types whose values JSON holds as they are.
PLAIN = (JSON, String, Integer, BigInteger, Boolean, Float)


@asynccontextmanager
async def snapshot(database: Database) -> AsyncGenerator[AsyncConnection, None]:
    """Open a connection that sees the database as it is now, whatever is committed later."""
    async with database.read(long=True) as connection:
        if not database.is_sqlite:
            await connection.execution_options(isolation_level="REPEATABLE READ")
        # The first statement takes the snapshot.
        await connection.execute(select(func.count()).select_from(TABLES[0]))
        yield connection


async def dump_tables(connection: AsyncConnection, target: SetWriter) -> None:
    """Write a part per table."""
    for table in TABLES:
        codecs = [_codec(column) for column in table.columns]
        with target.write_lines(f"sql/{table.name}.jsonl.gz") as part:
            query = select(table).order_by(*table.primary_key.columns)
            options = {"yield_per": ROWS_AT_ONCE}
            async for row in await connection.stream(query, execution_options=options):
                values = zip(table.columns.keys(), codecs, row, strict=True)
                part.write(
                    {
                        name: None if value is None else encode(value)
                        for name, (encode, _), value in values
                    }
                )


async def load_tables(
    database: Database, read: Callable[[str], Iterator[Any]], missing: Sequence[str]
) -> int:
    """Write all rows; returns how many.

    Args:
        database: Has the tables, and no rows.
        read: Yields the lines of a part.
        missing: Files whose bytes are not in the backup; they are marked as deleted.
    """
    count = 0
    async with database.write() as connection:
        issued: dict[str, datetime] = {}
        for table in TABLES:
            codecs = {column.name: _codec(column) for column in table.columns}
            for group in in_groups(read(f"sql/{table.name}.jsonl.gz"), ROWS_AT_ONCE):
                rows = [_decoded(row, codecs) for row in group]
                if table is INVOICES:
                    # Lines cannot be added to an issued invoice.
                    issued |= {row["id"]: row["issued_at"] for row in rows if row["issued_at"]}
                    rows = [row | {"issued_at": None} for row in rows]
                await connection.execute(insert(table), rows)
                count += len(rows)
        for invoice, at in issued.items():
            change = update(INVOICES).where(INVOICES.c.id == invoice)
            await connection.execute(change.values(issued_at=at))
        files = metadata.tables["files"]
        for group in in_groups(missing, ROWS_AT_ONCE):
            change = update(files).where(files.c.id.in_(group), files.c.deleted_at.is_(None))
            await connection.execute(change.values(deleted_at=func.now()))
        if not database.is_sqlite:
            await _set_sequences(connection)
    return count


async def has_rows(database: Database) -> str | None:
    """Return the name of a table that has rows, None if all are empty."""
    async with database.read() as connection:
        for table in metadata.sorted_tables:
            if (await connection.execute(select(table).limit(1))).first() is not None:
                return table.name
    return None


def _decoded(row: dict[str, Any], codecs: dict[str, Any]) -> dict[str, Any]:
    return {name: None if value is None else codecs[name][1](value) for name, value in row.items()}


def _codec(column: Column[Any]) -> tuple[Callable[[Any], Any], Callable[[Any], Any]]:
    """Return how a column's values are written as JSON, and read back."""
    kind = column.type
    if isinstance(kind, UtcTime):
        return datetime.isoformat, datetime.fromisoformat
    if isinstance(kind, Money):
        return str, Decimal
    if isinstance(kind, LargeBinary):
        return lambda value: base64.b64encode(value).decode(), base64.b64decode
    if not isinstance(kind, PLAIN):
        raise TypeError(f"{column}: no form for the type {kind!r} in a backup")
    return _same, _same


def _same(value: Any) -> Any:
    return value


async def _set_sequences(connection: AsyncConnection) -> None:
    """Let PostgreSQL number new rows after the restored ones."""
    for table in TABLES:
        column = _serial(table)
        if column is None:
            continue
        highest = f"(SELECT coalesce(max({column.name}), 0) + 1 FROM {table.name})"  # noqa: S608
        sequence = f"pg_get_serial_sequence('{table.name}', '{column.name}')"
        await connection.execute(text(f"SELECT setval({sequence}, {highest}, false)"))


def _serial(table: Table) -> Column[Any] | None:
    columns = list(table.primary_key.columns)
    if len(columns) == 1 and columns[0].autoincrement is True:
        return columns[0]
    return None
