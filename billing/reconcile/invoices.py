"""Checks a closed month's invoices against the ledger: lines, adjustments, totals.

The database sums up and joins both sides; only sums are read. Invariant: whether the month is
closed and what it holds are read from one snapshot; a closed month never changes afterwards.
"""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, FromClause, Select, and_, func, select

from billing.ledger.ledger import closed_months
from billing.money import to_micros
from billing.pricing.rating import TokenCounts
from billing.reconcile.findings import FindingKind, Findings
from billing.reconcile.jobs import EVENTS
from billing.reconcile.snapshot import snapshot
from billing.sums import exact_sum
from core.db.database import Database
from core.db.tables.base import table_of
from core.db.tables.invoices import AdjustmentRow, InvoiceLineRow, InvoiceRow

INVOICES = table_of(InvoiceRow)
LINES = table_of(InvoiceLineRow)
ADJUSTMENTS = table_of(AdjustmentRow)

#: The columns by which usage is grouped into lines.
SHARED = (
    *("account_id", "currency", "model", "service_tier"),
    *("price_version_id", "multiplier", "late"),
)
#: The ledger's columns of charged tokens and amounts, by kind of token.
COLUMNS = {
    "input": (EVENTS.c.charged_input_tokens, EVENTS.c.input_amount),
    "cached_input": (EVENTS.c.charged_cached_tokens, EVENTS.c.cached_amount),
    "output": (EVENTS.c.charged_output_tokens, EVENTS.c.output_amount),
}


class _InvoiceTotal(NamedTuple):
    """An invoice with the sum of its lines."""

    number: str
    kind: str
    total: Decimal
    issued_at: datetime | None
    lines: Decimal | None


class _UsageLinePair(NamedTuple):
    """A sum of the ledger beside the invoice line that should show it; either may be missing."""

    account_id: str | None
    currency: str | None
    model: str | None
    service_tier: str | None
    jobs: int | None
    tokens: int | None
    amount: Decimal | None
    number: str | None
    line_amount: Decimal | None
    line_tokens: int | None
    line_jobs: int | None
    repeated: int | None
    line_model: str | None
    line_tier: str | None


class _AdjustmentPair(NamedTuple):
    """An adjustment beside the invoice line that should show it; either may be missing."""

    id: str | None
    account_id: str | None
    currency: str | None
    amount: Decimal | None
    adjustment_id: str | None
    number: str | None
    line_amount: Decimal | None


async def check_invoices(database: Database, month: str, findings: Findings) -> None:
    """Note each invoice, line and adjustment that differs from the sums of the month's rows."""
    async with snapshot(database) as connection:
        closed = month in await closed_months(connection)
        async for row in await connection.stream(_totals(month)):
            _check_invoice(_InvoiceTotal(*row), findings, closed=closed)
        findings.count("invoices", 0)
        findings.count("invoice lines", 0)
        if not closed:
            return
        for kind in TokenCounts._fields:
            async for row in await connection.stream(_usage_lines(month, kind)):
                _check_usage_line(_UsageLinePair(*row), kind, findings)
        async for row in await connection.stream(_adjustment_lines(month)):
            _check_adjustment(_AdjustmentPair(*row), findings)


def _check_invoice(row: _InvoiceTotal, findings: Findings, *, closed: bool) -> None:
    findings.count("invoices")
    findings.differ(FindingKind.INVOICE, row.number, "total", row.lines or 0, row.total)
    if row.issued_at is None:
        findings.add(FindingKind.INVOICE, row.number, "issued_at", "an instant", None)
    if not closed and row.kind == "invoice":
        findings.add(FindingKind.INVOICE, row.number, "month", "closed", "open")


def _check_usage_line(row: _UsageLinePair, kind: str, findings: Findings) -> None:
    """Compare one line with the ledger rows it stands for; either may be missing."""
    findings.count("invoice lines", 0 if row.number is None else 1)
    place = row.number or f"{row.account_id} {row.currency}"
    of = f"{row.model or row.line_model} {row.service_tier or row.line_tier} {kind}"
    if row.number is None or row.amount is None:
        expected = None if row.amount is None else to_micros(row.amount)
        findings.add(FindingKind.INVOICE_LINE, place, of, expected, row.line_amount)
        return
    if row.repeated is not None and row.repeated > 1:
        findings.add(
            FindingKind.INVOICE_LINE, place, of, "one line", f"another of {row.line_amount}"
        )
    compared: dict[str, tuple[object, object]] = {
        "amount": (to_micros(row.amount), row.line_amount),
        "tokens": (int(row.tokens or 0), row.line_tokens),
        "jobs": (row.jobs, row.line_jobs),
    }
    for field, (in_ledger, on_line) in compared.items():
        findings.differ(FindingKind.INVOICE_LINE, place, f"{of} {field}", in_ledger, on_line)


def _check_adjustment(row: _AdjustmentPair, findings: Findings) -> None:
    findings.count("invoice lines", 0 if row.number is None else 1)
    place = row.number or f"{row.account_id} {row.currency}"
    what = f"adjustment {row.id or row.adjustment_id}"
    findings.differ(FindingKind.INVOICE_LINE, place, what, row.amount, row.line_amount)


def _totals(month: str) -> Select[str, str, Decimal, datetime | None, Decimal]:
    invoice, line = InvoiceRow, InvoiceLineRow
    head = (invoice.number, invoice.kind, invoice.total, invoice.issued_at)
    return (
        select(*head, func.sum(line.amount))
        .outerjoin_from(invoice, line, line.invoice_id == invoice.id)
        .where(invoice.month == month)
        .group_by(invoice.id, *head)
    )


def _usage_lines(month: str, kind: str) -> Select[Any]:
    """Return sums of the ledger beside the invoice lines that should show them."""
    tokens, amount = COLUMNS[kind]
    rows = (
        select(
            *(EVENTS.c[name] for name in SHARED),
            func.count().label("jobs"),
            func.sum(tokens).label("tokens"),
            exact_sum(amount).label("amount"),
        )
        .where(EVENTS.c.month == month, EVENTS.c.price_version_id.is_not(None), tokens > 0)
        .group_by(*(EVENTS.c[name] for name in SHARED))
        .cte("rows")
    )
    lines = _lines(month, LINES.c.kind == "usage", LINES.c.token_kind == kind)
    on = and_(*(rows.c[name] == lines.c[name] for name in SHARED))
    names = ("number", "line_amount", "line_tokens", "line_jobs", "repeated", "model")
    return select(
        *(rows.c[name] for name in ("account_id", "currency", "model", "service_tier")),
        *(rows.c[name] for name in ("jobs", "tokens", "amount")),
        *(lines.c[name] for name in (*names, "service_tier")),
    ).select_from(rows.outerjoin(lines, on, full=True))


def _adjustment_lines(month: str) -> Select[Any]:
    wanted = select(ADJUSTMENTS).where(ADJUSTMENTS.c.month == month).cte("wanted")
    lines = _lines(month, LINES.c.kind == "adjustment")
    on = and_(
        wanted.c.id == lines.c.adjustment_id,
        wanted.c.account_id == lines.c.account_id,
        wanted.c.currency == lines.c.currency,
    )
    return select(
        *(wanted.c.id, wanted.c.account_id, wanted.c.currency, wanted.c.amount),
        *(lines.c.adjustment_id, lines.c.number, lines.c.line_amount),
    ).select_from(wanted.outerjoin(lines, on, full=True))


def _lines(month: str, *which: ColumnElement[bool]) -> FromClause:
    """Return the lines of a month's invoices; `repeated` counts lines for the same usage."""
    shared: Sequence[ColumnElement[Any]] = [
        INVOICES.c[name] if name in ("account_id", "currency") else LINES.c[name] for name in SHARED
    ]
    return (
        select(
            *shared,
            *(INVOICES.c.number, LINES.c.adjustment_id),
            LINES.c.amount.label("line_amount"),
            LINES.c.tokens.label("line_tokens"),
            LINES.c.jobs.label("line_jobs"),
            func.row_number()
            .over(partition_by=[*shared, LINES.c.adjustment_id], order_by=LINES.c.id)
            .label("repeated"),
        )
        .join_from(LINES, INVOICES, INVOICES.c.id == LINES.c.invoice_id)
        .where(INVOICES.c.month == month, INVOICES.c.kind == "invoice", *which)
        .cte("lines")
    )
