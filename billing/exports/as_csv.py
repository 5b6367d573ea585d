"""CSV: `summary.csv`, `lines.csv`, `usage.csv`; UTF-8, commas, a line feed after each row.

Invariant: no cell is a formula. A text that a spreadsheet would compute gets an apostrophe in
front. The usage is written by the database, a text per row, since millions of them are.
"""

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from billing.exports.content import USAGE, Chunk, Content
from billing.exports.csv_line import FORMULA, csv_line
from billing.exports.rows import LINES, SUMMARY, Row, line_rows, summary_row, written_time
from billing.invoices import Invoice

Rows = Callable[[Invoice], Iterable[Row]]


async def write_csv(content: Content) -> AsyncIterator[Chunk]:
    """Yield the three files."""
    tables: tuple[tuple[str, Sequence[str], Rows], ...] = (
        ("summary.csv", SUMMARY, lambda invoice: [summary_row(invoice)]),
        ("lines.csv", LINES, line_rows),
    )
    for name, columns, rows_of in tables:
        yield Chunk(name, _encode([columns]))
        async for invoice in content.invoices():
            yield Chunk(name, _encode(rows_of(invoice)))
    yield Chunk("usage.csv", _encode([USAGE]))
    line = csv_line(USAGE, sqlite=content.sqlite)
    async for rows in content.pieces(content.select_usage(line)):
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
