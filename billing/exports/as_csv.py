"""CSV: `summary.csv`, `lines.csv`, `usage.csv`; UTF-8, commas, a line feed after each row.

Invariant: no cell is a formula. A text that a spreadsheet would compute gets an apostrophe in
front. The usage is written by the database, a text per row, since millions of them are.
"""

import asyncio
import csv
import io
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from datetime import datetime
from decimal import Decimal
from typing import Any

from billing.exports.content import USAGE, Chunk, Content
from billing.exports.csv_line import FORMULA, csv_line
from billing.exports.rows import INVOICE_TABLES, written_time


async def write_csv(content: Content) -> AsyncGenerator[Chunk, None]:
    """Yield the three files."""
    for name, columns, rows_of in INVOICE_TABLES:
        file = f"{name}.csv"
        yield Chunk(file, _encode([columns]))
        async for invoice in content.invoices():
            yield Chunk(file, _encode(rows_of(invoice)))
    yield Chunk("usage.csv", _encode([USAGE]))
    line = csv_line(USAGE, sqlite=content.sqlite)
    async with aclosing(content.pieces(content.select_usage(line))) as pieces:
        async for rows in pieces:
            yield Chunk("usage.csv", await asyncio.to_thread(_join, rows), len(rows))


def _join(rows: Sequence[Any]) -> bytes:
    return ("\n".join([row[0] for row in rows]) + "\n").encode()


def _encode(rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([cell(value) for value in row] for row in rows)
    return text.getvalue().encode()


def cell(value: Any) -> str:
    """Return a value as it stands in a cell."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case Decimal():
            return f"{value:f}"
        case datetime():
            return written_time(value)
        case str() if value.startswith(FORMULA):
            return f"'{value}"
        case _:
            return str(value)
