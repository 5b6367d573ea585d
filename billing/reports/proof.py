"""What the ledger says about one job, with the price it used and the invoice that bills it."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.pricing.prices import load_prices
from billing.pricing.rating import Cost, Price, TokenCounts
from core.db.engine import Database
from core.db.tables.base import table_of
from core.db.tables.invoices import InvoiceRow
from core.db.tables.usage import UsageEventRow

EVENTS = table_of(UsageEventRow)
INVOICES = table_of(InvoiceRow)


@dataclass(frozen=True, slots=True)
class IssuedInvoice:
    """The invoice that bills a job."""

    number: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Proof:
    """A row of the ledger as it stands.

    No price and cost while it waits for a price; no invoice while its month is open, or when
    nothing is charged.
    """

    row: Any
    price: Price | None = None
    cost: Cost | None = None
    invoice: IssuedInvoice | None = None

    @property
    def charged(self) -> TokenCounts:
        """Return what of the usage is charged."""
        row = self.row
        return TokenCounts(
            row.charged_input_tokens, row.charged_cached_tokens, row.charged_output_tokens
        )


async def read_proof(database: Database, job_id: str, account: str | None) -> Proof | None:
    """Return what the ledger has of a job of this account; of any account when None."""
    query = select(EVENTS).where(EVENTS.c.job_id == job_id)
    if account is not None:
        query = query.where(EVENTS.c.account_id == account)
    async with database.read() as connection:
        row = (await connection.execute(query)).one_or_none()
        if row is None:
            return None
        if row.price_version_id is None:
            return Proof(row)
        versions = (await load_prices(connection)).versions(row.model)
        price = next((one for one in versions if one.id == row.price_version_id), None)
        proof = Proof(row, price, _cost(row))
        if any(proof.charged):
            proof = replace(proof, invoice=await _invoice(connection, row))
    return proof


def _cost(row: Any) -> Cost:
    """Return the amounts as they were recorded; nothing is computed here."""
    amounts = row.input_amount, row.cached_amount, row.output_amount
    return Cost(row.price_version_id, row.currency, row.multiplier, *amounts)


async def _invoice(connection: AsyncConnection, row: Any) -> IssuedInvoice | None:
    query = select(INVOICES.c.number, INVOICES.c.issued_at).where(
        INVOICES.c.account_id == row.account_id,
        INVOICES.c.month == row.month,
        INVOICES.c.currency == row.currency,
        INVOICES.c.kind == "invoice",
        INVOICES.c.issued_at.is_not(None),
    )
    found = (await connection.execute(query)).one_or_none()
    return None if found is None else IssuedInvoice(found.number, found.issued_at)
