"""JSON: `invoices.json` (a document with invoices and lines), `usage.jsonl` (an object per event).

Amounts are strings, since JSON numbers are not exact.
"""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime
from decimal import Decimal
from typing import Any

import orjson

from billing.exports.content import USAGE, Chunk, Content
from billing.exports.rows import LINES, SUMMARY, line_rows, summary_rows, written_time
from billing.invoices.invoices import Invoice
from billing.money import plain
from core.json_text import on_one_line

OPTIONS = orjson.OPT_PASSTHROUGH_DATETIME
#: The columns of a line that repeat its invoice.
SHARED = ("number", "account_id", "currency")


async def write(content: Content) -> AsyncGenerator[Chunk, None]:
    """Yield both files."""
    head = {"month": content.month, "preliminary": content.preliminary}
    opening = orjson.dumps(head)[:-1] + b',"invoices":['
    async for invoice in content.invoices():
        yield Chunk("invoices.json", opening + b"\n" + _dump(invoice_object(invoice)))
        opening = b","
    if opening != b",":
        yield Chunk("invoices.json", opening)
    yield Chunk("invoices.json", b"\n]}\n")
    yield Chunk("usage.jsonl", b"")
    async with aclosing(content.usage()) as pieces:
        async for rows in pieces:
            yield Chunk("usage.jsonl", await asyncio.to_thread(_encode, rows), len(rows))


def invoice_object(invoice: Invoice) -> dict[str, Any]:
    """Return an invoice with its lines, as files and the API show it."""
    seller = invoice.seller.model_dump(exclude={"due_days"})
    names = LINES[len(SHARED) :]
    lines = [dict(zip(names, row[len(SHARED) :], strict=True)) for row in line_rows(invoice)]
    values = dict(zip(SUMMARY, next(summary_rows(invoice)), strict=True))
    values["due"] = f"{invoice.due:f}"  # with the decimals of the currency
    return {
        **values,
        "billing_address": invoice.billing_address,
        "seller": seller,
        "lines": lines,
    }


def plain_json(value: Any) -> Any:
    """Return a value with its amounts and times as strings."""
    return orjson.loads(_dump(value))


def _encode(rows: Sequence[Any]) -> bytes:
    return b"".join(on_one_line(_dump(dict(zip(USAGE, row, strict=True)))) + b"\n" for row in rows)


def _dump(value: Any) -> bytes:
    return orjson.dumps(value, default=_write, option=OPTIONS)


def _write(value: Any) -> str:
    match value:
        case Decimal():
            return plain(value)
        case datetime():
            return written_time(value)
        case _:
            raise TypeError(type(value).__name__)
