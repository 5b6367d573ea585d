"""Parquet: `summary.parquet`, `lines.parquet`, `usage.parquet`, with decimal and UTC time types.

Invariant: one row group is in memory at a time; encoded bytes are passed on immediately.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import BigInteger, Boolean
from sqlalchemy.types import TypeEngine

from billing.exports.content import EVENTS, USAGE, Chunk, Content
from billing.exports.rows import INVOICE_TABLES
from billing.exports.write_buffer import WriteBuffer
from core.db.tables.prices import MULTIPLIER_DECIMALS
from core.db.tables.types import MICROS, WHOLE_DIGITS, Money, UtcTime

TIME = pa.timestamp("us", tz="UTC")
WHOLE = ("position", "jobs", "tokens")
AMOUNTS = ("usage_total", "adjustments_total", "total", "due", "per_million", "amount")
ROWS_PER_GROUP = 25_000


async def write(content: Content) -> AsyncGenerator[Chunk, None]:
    """Yield the three files."""
    for name, columns, rows_of in INVOICE_TABLES:
        of_invoices = _ParquetTable(f"{name}.parquet", _schema(columns))
        async for invoice in content.invoices():
            yield of_invoices.add(rows_of(invoice))
        yield of_invoices.end()
    schema = pa.schema([(name, _stored_type(EVENTS.c[name].type)) for name in USAGE])
    table = _ParquetTable("usage.parquet", schema)
    async with aclosing(content.usage()) as pieces:
        async for rows in pieces:
            yield await asyncio.to_thread(table.add, rows)
    yield await asyncio.to_thread(table.end)


class _ParquetTable:
    """One file, written in row groups."""

    def __init__(self, name: str, schema: Any) -> None:
        self._name = name
        self._schema = schema
        self._rows: list[Any] = []
        self._buffer = WriteBuffer()
        self._writer = pq.ParquetWriter(self._buffer, schema, compression="zstd")

    def add(self, rows: Iterable[Sequence[Any]]) -> Chunk:
        """Add rows, and return the bytes that are ready."""
        before = len(self._rows)
        self._rows += rows
        count = len(self._rows) - before
        if len(self._rows) >= ROWS_PER_GROUP:
            self._write()
        return Chunk(self._name, self._buffer.take(), count)

    def end(self) -> Chunk:
        """Return the rest of the file."""
        self._write()
        self._writer.close()
        return Chunk(self._name, self._buffer.take())

    def _write(self) -> None:
        columns = zip(*self._rows, strict=True) if self._rows else [()] * len(self._schema)
        arrays = [
            pa.array(values, field.type)
            for values, field in zip(columns, self._schema, strict=True)
        ]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self._rows = []


def _schema(columns: Iterable[str]) -> Any:
    """Return the schema of a table made from invoices."""
    return pa.schema([(name, _type(name)) for name in columns])


def _type(name: str) -> Any:
    if name in WHOLE:
        return pa.int64()
    if name in AMOUNTS:
        return _decimal(MICROS)
    if name == "multiplier":
        return _decimal(MULTIPLIER_DECIMALS)
    if name == "late":
        return pa.bool_()
    return TIME if name.endswith("_at") else pa.string()


def _stored_type(stored: TypeEngine[Any]) -> Any:
    """Return the Parquet type of a column of the ledger."""
    match stored:
        case Money():
            return _decimal(stored.scale)
        case UtcTime():
            return TIME
        case Boolean():
            return pa.bool_()
        case BigInteger():
            return pa.int64()
        case _:
            return pa.string()


def _decimal(scale: int) -> Any:
    return pa.decimal128(WHOLE_DIGITS + scale, scale)
