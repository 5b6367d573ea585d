"""Checks what a closed month's invoices say beside their amounts, by drafting them again.

Invariant: a draft depends on usage, prices, adjustments and the month alone, so that an issued
invoice differs from it only if one of them was changed. Names and addresses of accounts may have
changed since, and are not compared.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import select

from billing.invoices.close import draft_month
from billing.invoices.invoices import Invoice, InvoiceLine, stream_invoices
from billing.reconcile.findings import FindingKind, Findings
from billing.reconcile.snapshot import snapshot
from core.db.database import Database
from core.db.tables.invoices import ClosedMonthRow
from core.settings.billing import SellerSettings

#: What a line of an invoice stands for; other checks compare jobs, tokens and amounts.
SHARED = ("model", "service_tier", "token_kind", "price_version_id", "multiplier", "late")


async def check_issued(database: Database, month: str, findings: Findings) -> None:
    """Note each invoice and line whose number, date, seller, price or text is not as drafted."""
    async with snapshot(database) as connection:
        closed_at = await connection.scalar(
            select(ClosedMonthRow.closed_at).where(ClosedMonthRow.month == month)
        )
        if closed_at is None:
            return
        drafts = await draft_month(connection, month, SellerSettings())
        expected = {(draft.account_id, draft.currency): draft for draft in drafts}
        first: Invoice | None = None
        async for invoice in stream_invoices(connection, month, None):
            if invoice.kind != "invoice":
                continue
            first = first or invoice
            findings.differ(
                FindingKind.INVOICE, invoice.number, "seller", first.seller, invoice.seller
            )
            _check_head(invoice, expected, closed_at, findings)


def _check_head(
    invoice: Invoice,
    expected: Mapping[tuple[str, str], Invoice],
    closed_at: datetime,
    findings: Findings,
) -> None:
    kind, number = FindingKind.INVOICE, invoice.number
    findings.differ(kind, number, "issued_at", closed_at, invoice.issued_at)
    draft = expected.get((invoice.account_id, invoice.currency))
    if draft is None:
        findings.add(kind, number, "account", "one with usage or adjustments", invoice.account_id)
        return
    findings.differ(kind, number, "number", draft.number, number)
    _check_lines(number, draft.lines, invoice.lines, findings)


def _check_lines(
    number: str, drafted: Sequence[InvoiceLine], lines: Sequence[InvoiceLine], findings: Findings
) -> None:
    by_key = {_key(line): line for line in drafted}
    for line in lines:
        draft = by_key.get(_key(line))
        if draft is None:
            continue  # the comparison of amounts finds lines without rows
        of = line.adjustment_id or f"{line.model} {line.service_tier} {line.token_kind}"
        for name in ("description", "per_million"):
            findings.differ(
                *(FindingKind.INVOICE_LINE, number, f"{of} {name}"),
                *(getattr(draft, name), getattr(line, name)),
            )


def _key(line: InvoiceLine) -> tuple[Any, ...]:
    return line.adjustment_id, *(getattr(line, name) for name in SHARED)
