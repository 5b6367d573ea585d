"""Closes months: what an account owes becomes an invoice that never changes.

Invariant: a month is closed with all of its invoices or not at all, in one transaction under the
ledger's exclusive lock; closing it again returns the same invoices. Months close in order, so no
earlier usage is left out.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.errors import MonthNotOver, MonthOutOfOrder, UnpricedUsage
from billing.invoices.close_sums import adjustments_of, earliest_open, sum_month, unpriced_models
from billing.invoices.draft import BillingDetails, MonthContent, draft_invoices
from billing.invoices.invoices import INVOICES, Invoice, InvoiceLine, list_invoices
from billing.ledger.ledger import closed_months
from billing.months import check_month, next_month
from billing.pricing.prices import load_prices
from core.db.audit import audit
from core.db.database import Database
from core.db.locks import own_ledger
from core.db.tables.accounts import AccountRow
from core.db.tables.invoices import ClosedMonthRow, InvoiceLineRow, InvoiceRow
from core.settings.billing import SellerSettings

#: How long a close waits for another one, which may have millions of events to add up.
LOCK_SECONDS = 300
INVOICES_AT_ONCE = 1_000
LINE_FIELDS = tuple(field.name for field in fields(InvoiceLine))


@dataclass(frozen=True, slots=True)
class ClosedMonth:
    """A closed month and its invoices, without lines; `already` if it was closed before."""

    month: str
    invoices: Sequence[Invoice]
    already: bool


async def close_month(
    database: Database,
    month: str,
    seller: SellerSettings,
    actor: str = "",
    now: datetime | None = None,
) -> ClosedMonth:
    """Issue a month's invoices; later usage of that month goes to the first open month.

    `billing.invoices.outbox_check` says whether usage of the month still waits to be recorded.

    Args:
        database: where the ledger is.
        month: a UTC month, as in 2026-11.
        seller: the seller's details, copied onto each invoice.
        actor: who closes it, for the audit log.
        now: the current instant; tests set it.

    Raises:
        InvalidMonth: this is not a month.
        MonthConflict: it is not over, an earlier month is open, or usage has no price; nothing was
            changed.
        DatabaseUnavailable: nothing was changed; try again later.
    """
    now = now or datetime.now(UTC)
    check_over(month, now)
    async with database.write(lock_seconds=LOCK_SECONDS) as connection:
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
    return ClosedMonth(month, invoices, already)


def check_over(month: str, now: datetime) -> None:
    """Check that a month is over, so that it can be closed.

    Raises:
        InvalidMonth: this is not a month.
        MonthNotOver: it has not ended yet.
    """
    first, end = check_month(month)
    if now < first:
        raise MonthNotOver(f"{month} has not started yet", param="month")
    if now < end:
        raise MonthNotOver(f"{month} is not over until {end:%Y-%m-%d %H:%M} UTC")


async def draft_month(
    connection: AsyncConnection, month: str, seller: SellerSettings, account: str | None = None
) -> list[Invoice]:
    """Return the invoices that a month would have if it were closed now.

    Args:
        connection: an open transaction.
        month: a UTC month.
        seller: the seller's details.
        account: only this account's invoices; all accounts' if None.
    """
    groups = await sum_month(connection, month, account)
    prices = await load_prices(connection)
    content = MonthContent(
        month,
        groups,
        await adjustments_of(connection, month, account),
        await _billing_details(connection),
        {price.id: price for price in prices.versions()},
        seller,
    )
    return list(draft_invoices(content))


async def issued_in(connection: AsyncConnection, month: str) -> list[Invoice]:
    """Return a closed month's invoices by number, without lines and without credit notes."""
    found = await list_invoices(connection, month=month, limit=None)
    invoices = [invoice for invoice in found if invoice.kind == "invoice"]
    return sorted(invoices, key=lambda invoice: (len(invoice.number), invoice.number))


async def _check_ready(connection: AsyncConnection, month: str, closed: Collection[str]) -> None:
    earlier = await earliest_open(connection, month, closed)
    if earlier is not None:
        raise MonthOutOfOrder(f"{earlier} is open and has usage or adjustments: close it first")
    unpriced = await unpriced_models(connection, month)
    if unpriced:
        models = ", ".join(f"{model} ({count} jobs)" for model, count in unpriced.items())
        raise UnpricedUsage(
            f"usage of {month} has no price: {models}; set a price that starts before those jobs,"
            " then run: penstock prices rate"
        )


async def _billing_details(connection: AsyncConnection) -> dict[str, BillingDetails]:
    row = AccountRow
    query = select(
        row.id, row.name, row.billing_name, row.billing_address, row.tax_id, row.tax_note
    )
    return {
        account: BillingDetails(billing_name or name, address, tax_id, tax_note)
        for account, name, billing_name, address, tax_id, tax_note in await connection.execute(
            query
        )
    }


async def _issue(
    connection: AsyncConnection, month: str, seller: SellerSettings, now: datetime
) -> None:
    """Insert the invoices with their lines, then issue them."""
    drafts = await draft_month(connection, month, seller)
    for start in range(0, len(drafts), INVOICES_AT_ONCE):
        batch = drafts[start : start + INVOICES_AT_ONCE]
        await connection.execute(insert(InvoiceRow), [row_of(invoice, now) for invoice in batch])
        await connection.execute(
            insert(InvoiceLineRow), [row for invoice in batch for row in line_rows(invoice)]
        )
    await seal(connection, INVOICES.c.month == month, now)


async def seal(connection: AsyncConnection, which: Any, now: datetime) -> None:
    """Set `issued_at` of invoices that are written; from then on triggers refuse every change."""
    change = update(INVOICES).where(which, INVOICES.c.issued_at.is_(None)).values(issued_at=now)
    await connection.execute(change)


def row_of(invoice: Invoice, now: datetime) -> dict[str, Any]:
    """Return the row of an invoice that is about to be issued."""
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
    """Close the month and the empty months between the last closed one and it."""
    months = [month]
    if closed and month > max(closed):
        following = next_month(max(closed))
        months = []
        while following <= month:
            months.append(following)
            following = next_month(following)
    rows = [{"month": name, "closed_at": now, "closed_by": actor} for name in months]
    await connection.execute(insert(ClosedMonthRow), rows)
