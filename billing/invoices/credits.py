"""Corrections: an adjustment for an open month, a credit note for an issued invoice.

Invariant: an issued invoice is never edited; a correction and a close never run at the same time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from accounts.errors import AccountNotFound
from billing.currencies import decimals_of, payable, wrong_currency
from billing.errors import InvalidAmount, InvalidMonth, MonthClosed
from billing.invoices.close import line_rows, row_of, seal
from billing.invoices.invoices import INVOICES, Invoice, InvoiceLine, find_invoice
from billing.ledger.ledger import closed_months
from billing.money import plain, total
from billing.months import check_month, first_open, month_of, next_month
from core.db.audit import audit
from core.db.database import Database
from core.db.locks import own_ledger
from core.db.tables.accounts import AccountRow
from core.db.tables.budgets import SpendingRow
from core.db.tables.invoices import AdjustmentRow, InvoiceLineRow, InvoiceRow
from core.db.tables.types import MICROS
from core.db.tables.usage import UsageEventRow
from core.ids import new_id

LARGEST = Decimal(1_000_000_000)
#: How many years before the current month an adjustment's month may be.
YEARS_BACK = 2


@dataclass(frozen=True, slots=True)
class NewAdjustment:
    """A credit (negative) or a charge (positive), in units of the currency.

    Without a month it goes to the first open one. Without a currency it is in that of the job that
    it names, or of the account's usage in the month, or in the account's.
    """

    account: str
    amount: Decimal
    reason: str
    month: str | None = None
    job_id: str | None = None
    currency: str | None = None


async def adjust(database: Database, new: NewAdjustment, actor: str = "") -> tuple[str, str]:
    """Add an adjustment.

    Args:
        database: where it is stored.
        new: `amount` with at most 6 decimals; `reason` is printed on the invoice.
        actor: who adds it, for the audit log.

    Returns:
        Its id, and the month whose invoice will show it.

    Raises:
        InvalidAmount: the amount is out of range, the reason is empty, the account has no such job,
            or the currency is unknown, ambiguous or not that of the job.
        InvalidMonth: this is not a month, or one that is too far away.
        AccountNotFound: there is no such account.
        MonthClosed: that month's invoices are issued.
    """
    _check(new.amount, new.reason)
    if new.currency is not None and (problem := wrong_currency(new.currency)):
        raise InvalidAmount(problem, param="currency")
    async with database.write() as connection:
        await own_ledger(connection)
        closed = await closed_months(connection)
        month = new.month or first_open(month_of(datetime.now(UTC)), closed)
        _check_near(month)
        if month in closed:
            raise MonthClosed(f"{month} is closed: credit its invoice, or adjust a later month")
        currency = await _currency(connection, new, month)
        adjustment_id = new_id("adj")
        row = {
            "id": adjustment_id,
            "account_id": new.account,
            "month": month,
            "amount": new.amount,
            "currency": currency,
            "reason": new.reason,
            "job_id": new.job_id,
            "created_by": actor,
        }
        await connection.execute(insert(AdjustmentRow), [row])
        details = {"account": new.account, "month": month, "amount": plain(new.amount)}
        details["currency"] = currency
        await audit(connection, actor, "adjusted", adjustment_id, **details)
    return adjustment_id, month


def _check_near(month: str) -> None:
    """Refuse a month that only a typing error can mean.

    Raises:
        InvalidMonth: it is more than YEARS_BACK before the current month, or after the next one.
    """
    check_month(month)
    current = month_of(datetime.now(UTC))
    first, last = f"{int(current[:4]) - YEARS_BACK:04}{current[4:]}", next_month(current)
    if not first <= month <= last:
        raise InvalidMonth(
            f"month: expected one from {first} to {last}, not {month}", param="month"
        )


async def _currency(connection: AsyncConnection, new: NewAdjustment, month: str) -> str:
    """Return the currency of an adjustment; an invoice is only ever in one."""
    own = await connection.scalar(select(AccountRow.currency).where(AccountRow.id == new.account))
    if own is None:
        raise AccountNotFound(f"account {new.account!r} not found", param="account")
    if new.job_id is not None:
        return await _currency_of_job(connection, new, own)
    if new.currency is not None:
        return new.currency
    row = SpendingRow
    query = select(row.currency).where(row.account_id == new.account, row.month == month).distinct()
    used = sorted(await connection.scalars(query))
    if len(used) > 1 and own not in used:
        raise InvalidAmount(
            f"currency: {new.account} has usage in {', '.join(used)} in {month}; say which one",
            param="currency",
        )
    return own if own in used or not used else used[0]


async def _currency_of_job(connection: AsyncConnection, new: NewAdjustment, own: str) -> str:
    job = UsageEventRow
    query = select(job.currency).where(job.job_id == new.job_id, job.account_id == new.account)
    found = (await connection.execute(query)).one_or_none()
    if found is None:
        raise InvalidAmount(f"job: {new.account} has no usage of a job {new.job_id!r}", param="job")
    currency = found.currency or new.currency or own
    if new.currency not in (None, currency):
        raise InvalidAmount(
            f"currency: the job was charged in {currency}, not in {new.currency}", param="currency"
        )
    return currency


async def credit(
    database: Database, invoice_id: str, amount: Decimal, reason: str, actor: str = ""
) -> Invoice:
    """Issue a credit note for a part of an invoice, or for all of it.

    Args:
        database: where it is stored.
        invoice_id: the invoice's id or number.
        amount: in units of the invoice's currency, positive, with at most 6 decimals.
        reason: printed on the credit note.
        actor: who issues it, for the audit log.

    Raises:
        InvoiceNotFound: there is no such invoice.
        InvalidAmount: the amount is not positive, or more than is left of the invoice.
    """
    _check(amount, reason)
    now = datetime.now(UTC)
    async with database.write() as connection:
        await own_ledger(connection)
        invoice = await find_invoice(connection, invoice_id, None)
        earlier = await _credits(connection, invoice.id)
        left = total(invoice.total, *earlier)
        if invoice.kind != "invoice" or not 0 < amount <= left:
            raise InvalidAmount(
                f"at most {plain(left)} {invoice.currency} of {invoice.number} can be credited",
                param="amount",
            )
        _check_payout(invoice, [*earlier, -amount])
        note = Invoice(
            id=new_id("inv"),
            number=f"CN{invoice.number.removeprefix('INV')}-{len(earlier) + 1}",
            kind="credit_note",
            corrects=invoice.number,
            account_id=invoice.account_id,
            month=first_open(month_of(now), await closed_months(connection)),
            currency=invoice.currency,
            billing_name=invoice.billing_name,
            billing_address=invoice.billing_address,
            tax_id=invoice.tax_id,
            tax_note=invoice.tax_note,
            seller=invoice.seller,
            total=-amount,
            issued_at=None,
            lines=(InvoiceLine("adjustment", reason, -amount),),
        )
        row = row_of(note, now) | {"corrects_id": invoice.id}
        await connection.execute(insert(InvoiceRow), [row])
        await connection.execute(insert(InvoiceLineRow), line_rows(note))
        await seal(connection, INVOICES.c.id == note.id, now)
        details = {"credits": invoice.number, "amount": plain(amount)}
        await audit(connection, actor, "credited", note.number, **details)
        return await find_invoice(connection, note.id, None)


def _check_payout(invoice: Invoice, credited: Sequence[Decimal]) -> None:
    """Refuse credit notes that would pay out more, each rounded, than the invoice asks for."""
    paid = total(*(-payable(amount, invoice.currency) for amount in credited))
    if paid > invoice.due:
        raise InvalidAmount(
            f"the credit notes of {invoice.number}, each rounded to"
            f" {decimals_of(invoice.currency)} decimals, would pay out {paid} {invoice.currency},"
            f" more than the {invoice.due} that it asks for",
            param="amount",
        )


async def _credits(connection: AsyncConnection, invoice_id: str) -> list[Decimal]:
    """Return the totals of an invoice's credit notes, which are negative."""
    query = select(InvoiceRow.total).where(InvoiceRow.corrects_id == invoice_id)
    return list(await connection.scalars(query))


def _check(amount: Decimal, reason: str) -> None:
    if not amount.is_finite() or not 0 < abs(amount) <= LARGEST:
        raise InvalidAmount(
            f"amount: expected a number other than 0, up to {LARGEST}", param="amount"
        )
    if amount != round(amount, MICROS):
        raise InvalidAmount(f"amount: expected at most {MICROS} decimals", param="amount")
    if not reason.strip():
        raise InvalidAmount("reason: must not be empty, the invoice shows it", param="reason")
