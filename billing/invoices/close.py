"""Closes months: what an account owes becomes an invoice that never changes.

Invariant: a month is closed with all its invoices or not at all, in one transaction that has the
ledger to itself; closing it again finds the same invoices. Earlier usage is never left behind:
what lies open before a month is closed before it.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.errors import InvalidMonth, MonthNotOver, MonthOutOfOrder, UnpricedUsage
from billing.invoices.close_sums import adjustments_of, earliest_open, sum_month, unpriced_models
from billing.invoices.draft import Customer, MonthBooks, draft_invoices
from billing.invoices.invoices import INVOICES, Invoice, InvoiceLine, list_invoices
from billing.ledger.ledger import closed_months
from billing.months import bounds, next_month
from billing.pricing.prices import load_prices
from core.db.audit import audit
from core.db.engine import Database
from core.db.locks import own_ledger
from core.db.tables.accounts import AccountRow
from core.db.tables.base import table_of
from core.db.tables.invoices import ClosedMonthRow, InvoiceLineRow, InvoiceRow
from core.settings.billing import SellerSettings

#: A second one who closes waits for the first, which may have millions of events to add up.
LOCK_SECONDS = 300
INVOICES_AT_ONCE = 1_000
LINE_FIELDS = tuple(field.name for field in fields(InvoiceLine))


@dataclass(frozen=True, slots=True)
class ClosedBooks:
    """A closed month; `already` if it was before. Its invoices come without their lines."""

    month: str
    invoices: Sequence[Invoice]
    already: bool


async def close_month(
    database: Database,
    month: str,
    seller: SellerSettings,
    actor: str = "",
    now: datetime | None = None,
) -> ClosedBooks:
    """Issue a month's invoices and let no more usage into it.

    Raises:
        InvalidMonth: this is no month.
        MonthConflict: it is not over, an earlier one is open, or usage has no price; nothing
            was changed.
        DatabaseUnavailable: nothing was changed; come back later.
    """
    now = now or datetime.now(UTC)
    check_over(month, now)
    async with database.write() as connection:
        if connection.dialect.name != "sqlite":
            await connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'"))
        await own_ledger(connection)
        closed = await closed_months(connection)
        already = month in closed
        if not already:
            await _check_ready(connection, month, closed)
            await _issue(connection, month, seller, now)
            await _mark_closed(connection, month, closed, actor, now)
        invoices = await issued_in(connection, month)
        if not already:
            await audit(connection, actor, "month_closed", month, invoices=len(invoices))
    return ClosedBooks(month, invoices, already)


def check_over(month: str, now: datetime) -> None:
    """Refuse what cannot be closed yet, whatever is in it."""
    first, end = check_month(month)
    if now < first:
        raise MonthNotOver(f"{month} has not begun yet", param="month")
    if now < end:
        raise MonthNotOver(f"{month} is still running, until {end:%Y-%m-%d %H:%M} UTC")


def check_month(month: str) -> tuple[datetime, datetime]:
    """Return a month's first instant and that of the next one.

    Raises:
        InvalidMonth: this is none.
    """
    try:
        return bounds(month)
    except ValueError as error:
        raise InvalidMonth(str(error), param="month") from None


async def draft_month(
    connection: AsyncConnection, month: str, seller: SellerSettings, account: str | None = None
) -> list[Invoice]:
    """Return the invoices a month would have if it were closed now."""
    groups = await sum_month(connection, month, account)
    book = await load_prices(connection)
    books = MonthBooks(
        month,
        groups,
        await adjustments_of(connection, month, account),
        await _customers(connection),
        {price.id: price for price in book.versions()},
        seller,
    )
    return list(draft_invoices(books))


async def issued_in(connection: AsyncConnection, month: str) -> list[Invoice]:
    """Return a closed month's invoices by number, without their lines and without credit notes."""
    found = await list_invoices(connection, month=month, limit=None)
    invoices = [invoice for invoice in found if invoice.kind == "invoice"]
    return sorted(invoices, key=lambda invoice: invoice.number)


async def _check_ready(connection: AsyncConnection, month: str, closed: Collection[str]) -> None:
    earlier = await earliest_open(connection, month, closed)
    if earlier is not None:
        raise MonthOutOfOrder(f"{earlier} has usage or adjustments and is open: close it first")
    unpriced = await unpriced_models(connection, month)
    if unpriced:
        models = ", ".join(f"{model} ({count} jobs)" for model, count in unpriced.items())
        raise UnpricedUsage(
            f"usage of {month} has no price: {models}; set one from before those jobs on,"
            " then: penstock prices rate"
        )


async def _customers(connection: AsyncConnection) -> dict[str, Customer]:
    account = table_of(AccountRow).c
    shown = account.billing_name, account.billing_address, account.tax_id, account.tax_note
    rows = await connection.execute(select(account.id, account.name, *shown))
    return {row[0]: Customer(row[2] or row[1], *row[3:]) for row in rows}


async def _issue(
    connection: AsyncConnection, month: str, seller: SellerSettings, now: datetime
) -> None:
    """Write the invoices with their lines, then seal them."""
    drafts = await draft_month(connection, month, seller)
    for start in range(0, len(drafts), INVOICES_AT_ONCE):
        some = drafts[start : start + INVOICES_AT_ONCE]
        await connection.execute(insert(InvoiceRow), [row_of(invoice, now) for invoice in some])
        await connection.execute(
            insert(InvoiceLineRow), [row for invoice in some for row in line_rows(invoice)]
        )
    await seal(connection, INVOICES.c.month == month, now)


async def seal(connection: AsyncConnection, which: Any, now: datetime) -> None:
    """Issue invoices that are written; from here on triggers refuse every change."""
    change = update(INVOICES).where(which, INVOICES.c.issued_at.is_(None)).values(issued_at=now)
    await connection.execute(change)


def row_of(invoice: Invoice, now: datetime) -> dict[str, Any]:
    """Return the row of an invoice that is to be issued."""
    names = ("id", "number", "kind", "account_id", "month", "currency", "total")
    billing = ("billing_name", "billing_address", "tax_id", "tax_note")
    values = {name: getattr(invoice, name) for name in (*names, *billing)}
    return {**values, "seller": invoice.seller.model_dump_json(), "created_at": now}


def line_rows(invoice: Invoice) -> list[dict[str, Any]]:
    """Return the rows of an invoice's lines."""
    return [
        {name: getattr(line, name) for name in LINE_FIELDS}
        | {"invoice_id": invoice.id, "position": position}
        for position, line in enumerate(invoice.lines, 1)
    ]


async def _mark_closed(
    connection: AsyncConnection, month: str, closed: Collection[str], actor: str, now: datetime
) -> None:
    """Close the month, and the empty ones between the last closed one and it."""
    months = [month]
    if closed and month > max(closed):
        following = next_month(max(closed))
        months = []
        while following <= month:
            months.append(following)
            following = next_month(following)
    rows = [{"month": one, "closed_at": now, "closed_by": actor} for one in months]
    await connection.execute(insert(ClosedMonthRow), rows)
