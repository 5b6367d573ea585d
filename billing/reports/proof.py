"""What the ledger has about one job, with the price that was used and the invoice that bills it."""

from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.pricing.prices import load_prices
from billing.pricing.rating import Cost, Price, TokenCounts
from core.db.database import Database
from core.db.tables.base import table_of, typed_row
from core.db.tables.invoices import InvoiceRow
from core.db.tables.usage import UsageEventRow

EVENTS = table_of(UsageEventRow)


@dataclass(frozen=True, slots=True)
class IssuedInvoice:
    """The invoice that bills a job."""

    number: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Proof:
    """A job's usage event with its price, cost and invoice.

    Price and cost are None while the event has no price. The invoice is None while its month is
    open, and if nothing is charged.
    """

    row: UsageEventRow
    price: Price | None = None
    cost: Cost | None = None
    invoice: IssuedInvoice | None = None

    @property
    def charged(self) -> TokenCounts:
        """Return the tokens that are charged."""
        row = self.row
        return TokenCounts(
            row.charged_input_tokens, row.charged_cached_tokens, row.charged_output_tokens
        )


async def read_proof(database: Database, job_id: str, account: str | None) -> Proof | None:
    """Return the proof of a job; None if the ledger has no such job of this account.

    Args:
        database: where the ledger is.
        job_id: the job.
        account: the account that asks; None finds the job of any account.
    """
    query = select(EVENTS).where(EVENTS.c.job_id == job_id)
    if account is not None:
        query = query.where(EVENTS.c.account_id == account)
    async with database.read() as connection:
        found = (await connection.execute(query)).one_or_none()
        if found is None:
            return None
        row = typed_row(UsageEventRow, found)
        if row.price_version_id is None:
            return Proof(row)
        versions = (await load_prices(connection)).versions(row.model)
        price = next((price for price in versions if price.id == row.price_version_id), None)
        proof = Proof(row, price, _cost(row))
        if any(proof.charged):
            proof = replace(proof, invoice=await _invoice(connection, row))
    return proof


def _cost(row: UsageEventRow) -> Cost:
    """Return the recorded amounts of a priced event; nothing is computed here."""
    assert row.price_version_id is not None
    assert row.currency is not None
    assert row.multiplier is not None
    assert row.input_amount is not None
    assert row.cached_amount is not None
    assert row.output_amount is not None
    return Cost(
        price_id=row.price_version_id,
        currency=row.currency,
        multiplier=row.multiplier,
        input=row.input_amount,
        cached_input=row.cached_amount,
        output=row.output_amount,
    )


async def _invoice(connection: AsyncConnection, row: UsageEventRow) -> IssuedInvoice | None:
    invoice = InvoiceRow
    query = select(invoice.number, invoice.issued_at).where(
        invoice.account_id == row.account_id,
        invoice.month == row.month,
        invoice.currency == row.currency,
        invoice.kind == "invoice",
    )
    for number, issued_at in await connection.execute(query):
        if issued_at is not None:
            return IssuedInvoice(number, issued_at)
    return None
