"""Invoices and credit notes, and reading them back; values, as they were issued.

Invariant: `total` is the sum of the lines, whose amounts are rounded to micros; what is paid is
the total rounded to the currency's smallest coin.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.currencies import payable
from billing.errors import InvoiceNotFound
from billing.sums import bytewise
from core.db.tables.base import table_of
from core.db.tables.invoices import InvoiceLineRow, InvoiceRow
from core.settings.billing import SellerSettings

INVOICES = table_of(InvoiceRow)
LINES = table_of(InvoiceLineRow)
CORRECTED = INVOICES.alias("corrected")
ROWS_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """One line: usage of one model, tier, kind of token and price, or an adjustment."""

    kind: str
    description: str
    amount: Decimal
    model: str | None = None
    service_tier: str | None = None
    token_kind: str | None = None
    price_version_id: str | None = None
    multiplier: Decimal | None = None
    per_million: Decimal | None = None
    late: bool = False
    jobs: int = 0
    tokens: int = 0
    adjustment_id: str | None = None


@dataclass(frozen=True, slots=True)
class Invoice:
    """An invoice or a credit note; `issued_at` None is one that a running month would give."""

    id: str
    number: str
    kind: str
    corrects: str | None
    account_id: str
    month: str
    currency: str
    billing_name: str
    billing_address: str
    tax_id: str
    tax_note: str
    seller: SellerSettings
    total: Decimal
    issued_at: datetime | None
    lines: Sequence[InvoiceLine] = ()

    @property
    def due(self) -> Decimal:
        """Return what is paid: the total in whole coins."""
        return payable(self.total, self.currency)

    @property
    def due_at(self) -> datetime | None:
        """Return until when it is paid."""
        days = timedelta(days=self.seller.due_days)
        return None if self.issued_at is None else self.issued_at + days


LINE_COLUMNS = [LINES.c[name] for name in InvoiceLine.__slots__]


async def find_invoice(
    connection: AsyncConnection, invoice_id: str, account: str | None
) -> Invoice:
    """Return an invoice, by id or number, with its lines.

    Raises:
        InvoiceNotFound: there is none, or it is not this account's.
    """
    wanted = (INVOICES.c.id == invoice_id) | (INVOICES.c.number == invoice_id)
    query = _select(account=account).where(wanted)
    head = (await connection.execute(query)).one_or_none()
    if head is None:
        raise InvoiceNotFound(f"no invoice {invoice_id!r}")
    lines = select(*LINE_COLUMNS).where(LINES.c.invoice_id == head.id).order_by(LINES.c.position)
    return _invoice(head, await connection.execute(lines))


async def list_invoices(
    connection: AsyncConnection,
    *,
    account: str | None = None,
    month: str | None = None,
    before: str | None = None,
    limit: int | None = None,
) -> list[Invoice]:
    """Return invoices without their lines, newest first."""
    query = _select(account=account, month=month).order_by(bytewise(INVOICES.c.id).desc())
    if before is not None:
        query = query.where(bytewise(INVOICES.c.id) < before)
    return [_invoice(head) for head in await connection.execute(query.limit(limit))]


async def stream_invoices(
    connection: AsyncConnection, month: str, account: str | None
) -> AsyncIterator[Invoice]:
    """Yield a month's invoices with their lines by number, a few in memory at a time."""
    query = (
        _select(account=account, month=month)
        .add_columns(*(column.label(f"line_{column.name}") for column in LINE_COLUMNS))
        .outerjoin(LINES, LINES.c.invoice_id == INVOICES.c.id)
        .order_by(bytewise(INVOICES.c.number), LINES.c.position)
    )
    head, lines = None, []
    options = {"yield_per": ROWS_AT_ONCE}
    async for row in await connection.stream(query, execution_options=options):
        if head is not None and row.id != head.id:
            yield _invoice(head, lines)
            lines = []
        head = row
        if row.line_kind is not None:
            lines.append(tuple(row)[-len(LINE_COLUMNS) :])
    if head is not None:
        yield _invoice(head, lines)


def _select(*, account: str | None, month: str | None = None) -> Select[Any]:
    query = (
        select(INVOICES, CORRECTED.c.number.label("corrects"))
        .outerjoin(CORRECTED, CORRECTED.c.id == INVOICES.c.corrects_id)
        .where(INVOICES.c.issued_at.is_not(None))
    )
    if account is not None:
        query = query.where(INVOICES.c.account_id == account)
    if month is not None:
        query = query.where(INVOICES.c.month == month)
    return query


def _invoice(head: Any, lines: Iterable[Any] = ()) -> Invoice:
    return Invoice(
        head.id,
        head.number,
        head.kind,
        head.corrects,
        head.account_id,
        head.month,
        head.currency,
        head.billing_name,
        head.billing_address,
        head.tax_id,
        head.tax_note,
        SellerSettings.model_validate_json(head.seller),
        head.total,
        head.issued_at,
        tuple(InvoiceLine(*line) for line in lines),
    )
