"""Invoices and credit notes as values, and queries that read them as they were issued.

Invariant: `total` is the sum of the lines, whose amounts are rounded to micros; `due` is the total
rounded to the currency's smallest unit.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.currencies import payable
from billing.errors import InvoiceNotFound
from billing.sums import bytewise
from core.db.tables.base import table_of
from core.db.tables.invoices import InvoiceLineRow, InvoiceRow
from core.ids import can_exist
from core.settings.billing import SellerSettings

INVOICES = table_of(InvoiceRow)
LINES = table_of(InvoiceLineRow)
CORRECTED = INVOICES.alias("corrected")
ROWS_AT_ONCE = 2_000


@dataclass(frozen=True, slots=True)
class InvoiceLine:
    """One line: usage of one model, tier, kind of token and price, or an adjustment.

    `amount` is in units of the invoice's currency, `per_million` per million tokens.
    """

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
    """An invoice or a credit note; `issued_at` is None for a draft of an open month."""

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
        """Return the amount to be paid: the total in the currency's smallest unit."""
        return payable(self.total, self.currency)

    @property
    def due_at(self) -> datetime | None:
        """Return when payment is due; None for a draft."""
        days = timedelta(days=self.seller.due_days)
        return None if self.issued_at is None else self.issued_at + days


class _InvoiceHead(NamedTuple):
    """A row of the invoices table, with the number of the invoice that it corrects."""

    id: str
    number: str
    kind: str
    account_id: str
    month: str
    currency: str
    billing_name: str
    billing_address: str
    tax_id: str
    tax_note: str
    seller: str
    total: Decimal
    issued_at: datetime | None
    corrects: str | None


HEAD_COLUMNS = [INVOICES.c[name] for name in _InvoiceHead._fields if name != "corrects"]
HEAD_COLUMNS.append(CORRECTED.c.number)
#: Numbers sort as text only while they have the same length: a month may have over 9,999 of them.
BY_NUMBER = (
    *(bytewise(INVOICES.c.kind), func.length(INVOICES.c.number)),
    bytewise(INVOICES.c.number),
)
LINE_COLUMNS = [LINES.c[name] for name in InvoiceLine.__slots__]


async def find_invoice(
    connection: AsyncConnection, invoice_id: str, account: str | None
) -> Invoice:
    """Return an invoice with its lines, by id or number.

    Args:
        connection: an open transaction.
        invoice_id: the invoice's id or number.
        account: only an invoice of this account; of any account if None.

    Raises:
        InvoiceNotFound: there is none, or it belongs to another account.
    """
    if not can_exist(invoice_id):
        raise InvoiceNotFound(f"invoice {invoice_id!r} not found")
    wanted = (INVOICES.c.id == invoice_id) | (INVOICES.c.number == invoice_id)
    query = _select(account=account).where(wanted)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise InvoiceNotFound(f"invoice {invoice_id!r} not found")
    head = _InvoiceHead(*row)
    lines = select(*LINE_COLUMNS).where(LINES.c.invoice_id == head.id).order_by(LINES.c.position)
    return _invoice(head, [InvoiceLine(*line) for line in await connection.execute(lines)])


async def list_invoices(
    connection: AsyncConnection,
    *,
    account: str | None = None,
    month: str | None = None,
    before: str | None = None,
    limit: int | None = None,
) -> list[Invoice]:
    """Return issued invoices and credit notes without lines, newest first.

    Args:
        connection: an open transaction.
        account: only those of this account.
        month: only those of this month.
        before: only those older than this invoice id, for the next page.
        limit: how many at most; all if None.
    """
    query = _select(account=account, month=month).order_by(bytewise(INVOICES.c.id).desc())
    if before is not None:
        query = query.where(bytewise(INVOICES.c.id) < before)
    return [_invoice(_InvoiceHead(*row)) for row in await connection.execute(query.limit(limit))]


async def stream_invoices(
    connection: AsyncConnection, month: str, account: str | None
) -> AsyncIterator[Invoice]:
    """Yield a month's invoices with their lines, ordered by number, a few in memory at a time."""
    query = (
        _select(account=account, month=month)
        .add_columns(*LINE_COLUMNS)
        .outerjoin(LINES, LINES.c.invoice_id == INVOICES.c.id)
        .order_by(*BY_NUMBER, LINES.c.position)
    )
    head: _InvoiceHead | None = None
    lines: list[InvoiceLine] = []
    options = {"yield_per": ROWS_AT_ONCE}
    async for row in await connection.stream(query, execution_options=options):
        head_values, line_values = row[: len(HEAD_COLUMNS)], row[len(HEAD_COLUMNS) :]
        if head is None or head.id != head_values[0]:
            if head is not None:
                yield _invoice(head, lines)
            head, lines = _InvoiceHead(*head_values), []
        if line_values[0] is not None:  # an invoice without lines has one row of nulls
            lines.append(InvoiceLine(*line_values))
    if head is not None:
        yield _invoice(head, lines)


def _select(*, account: str | None, month: str | None = None) -> Select[Any]:
    query = (
        select(*HEAD_COLUMNS)
        .select_from(INVOICES)
        .outerjoin(CORRECTED, CORRECTED.c.id == INVOICES.c.corrects_id)
        .where(INVOICES.c.issued_at.is_not(None))
    )
    if account is not None:
        query = query.where(INVOICES.c.account_id == account)
    if month is not None:
        query = query.where(INVOICES.c.month == month)
    return query


def _invoice(head: _InvoiceHead, lines: Iterable[InvoiceLine] = ()) -> Invoice:
    return Invoice(
        id=head.id,
        number=head.number,
        kind=head.kind,
        corrects=head.corrects,
        account_id=head.account_id,
        month=head.month,
        currency=head.currency,
        billing_name=head.billing_name,
        billing_address=head.billing_address,
        tax_id=head.tax_id,
        tax_note=head.tax_note,
        seller=SellerSettings.model_validate_json(head.seller),
        total=head.total,
        issued_at=head.issued_at,
        lines=tuple(lines),
    )
