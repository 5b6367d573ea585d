"""CSV: `summary.csv`, `lines.csv`, `usage.csv`; UTF-8, commas, a line feed after each row.

Invariant: no cell is a formula: text that a spreadsheet would evaluate gets a leading apostrophe.
The database formats the usage, one text per row, since there may be millions of rows.
"""

import asyncio
import csv
import io
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import CursorResult, func, literal, select
from sqlalchemy.dialects.postgresql import aggregate_order_by

from billing.exports.content import EVENTS, USAGE, Chunk, Content
from billing.exports.csv_line import csv_line, harmless
from billing.exports.rows import INVOICE_TABLES, written_time


class _CsvBlock(NamedTuple):
    """Rows that PostgreSQL joined into one text; None when there are no more."""

    text: str | None
    rows: int
    last_job_id: str


async def write(content: Content) -> AsyncGenerator[Chunk, None]:
    """Yield the three files."""
    for name, columns, rows_of in INVOICE_TABLES:
        file = f"{name}.csv"
        yield Chunk(file, _encode([columns]))
        async for invoice in content.invoices():
            yield Chunk(file, _encode(rows_of(invoice)))
    yield Chunk("usage.csv", _encode([USAGE]))
    async with aclosing(_lines(content) if content.sqlite else _blocks(content)) as pieces:
        async for text, count in pieces:
            yield Chunk("usage.csv", await asyncio.to_thread(text.encode), count)


async def _lines(content: Content) -> AsyncGenerator[tuple[str, int], None]:
    """Yield lines in pieces, each with the number of its rows."""
    line = csv_line(USAGE, sqlite=True)
    async with aclosing(content.pieces(content.select_usage(line))) as pieces:
        async for rows in pieces:
            yield "".join(f"{row[0]}\n" for row in rows), len(rows)


async def _blocks(content: Content) -> AsyncGenerator[tuple[str, int], None]:
    """Yield lines that PostgreSQL has joined: fetching a row each would keep a core busy here."""
    line = csv_line(USAGE, sqlite=False).label("line")
    query = content.select_usage(line, EVENTS.c.job_id).limit(content.rows_at_once)

    def fetch(after: str) -> asyncio.Future[CursorResult[str | None, int, str]]:
        page = query.where(EVENTS.c.job_id > after).subquery()
        lines = func.string_agg(page.c.line, aggregate_order_by(literal("\n"), page.c.job_id))
        block = select(lines, func.count(), func.max(page.c.job_id))
        return asyncio.ensure_future(content.connection.execute(block))

    upcoming = fetch("")
    try:
        while (block := _CsvBlock(*(await upcoming).one())).text is not None:
            upcoming = fetch(block.last_job_id)
            yield f"{block.text}\n", block.rows
    finally:
        upcoming.cancel()
        await asyncio.gather(upcoming, return_exceptions=True)


def _encode(rows: Iterable[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([cell(value) for value in row] for row in rows)
    return text.getvalue().encode()


def cell(value: Any) -> str:
    """Return a value as the text of a cell."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case Decimal():
            return f"{value:f}"
        case datetime():
            return written_time(value)
        case str():
            return harmless(value)
        case _:
            return str(value)
