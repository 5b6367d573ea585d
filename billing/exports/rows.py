"""An invoice as rows of the tables `summary` and `lines`."""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from billing.invoices.invoices import Invoice
from billing.money import total

Row = tuple[Any, ...]

SUMMARY = (
    *("number", "kind", "corrects", "account_id", "month", "currency", "billing_name", "tax_id"),
    *("tax_note", "usage_total", "adjustments_total", "total", "due", "issued_at", "due_at"),
)
LINES = (
    *("number", "account_id", "currency", "position", "kind", "description", "model"),
    *("service_tier", "token_kind", "price_version_id", "multiplier", "per_million", "late"),
    *("jobs", "tokens", "amount"),
)


def summary_rows(invoice: Invoice) -> Iterator[Row]:
    """Yield an invoice as a row of SUMMARY."""
    yield (
        *(invoice.number, invoice.kind, invoice.corrects, invoice.account_id, invoice.month),
        *(invoice.currency, invoice.billing_name, invoice.tax_id, invoice.tax_note),
        *(
            sum_of_kind(invoice, "usage"),
            sum_of_kind(invoice, "adjustment"),
            invoice.total,
            invoice.due,
        ),
        *(invoice.issued_at, invoice.due_at),
    )


def line_rows(invoice: Invoice) -> Iterator[Row]:
    """Yield an invoice's lines as rows of LINES."""
    for position, line in enumerate(invoice.lines, 1):
        yield (
            *(invoice.number, invoice.account_id, invoice.currency, position),
            *(line.kind, line.description, line.model, line.service_tier, line.token_kind),
            *(line.price_version_id, line.multiplier, line.per_million, line.late),
            *(line.jobs, line.tokens, line.amount),
        )


def written_time(instant: datetime) -> str:
    """Return an instant as UTC text, with as many decimals as it has."""
    text = instant.replace(tzinfo=None).isoformat()
    return f"{text.rstrip('0') if '.' in text else text}Z"


def sum_of_kind(invoice: Invoice, kind: str) -> Decimal:
    """Return the sum of an invoice's lines of one kind."""
    return total(*(line.amount for line in invoice.lines if line.kind == kind))


#: File name, columns, and the function that yields an invoice's rows.
INVOICE_TABLES: tuple[tuple[str, Sequence[str], Callable[[Invoice], Iterator[Row]]], ...] = (
    ("summary", SUMMARY, summary_rows),
    ("lines", LINES, line_rows),
)
