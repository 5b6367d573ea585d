"""The invoice object: the content of the JSON export with the invoice's id."""

from typing import Any

from billing.exports.json_format import invoice_object, plain_json
from billing.invoices.invoices import Invoice

#: Computed from the lines, which are not read for a list.
LINE_FIELDS = ("lines", "usage_total", "adjustments_total")


def invoice_view(invoice: Invoice, *, lines: bool = True) -> dict[str, Any]:
    """Build the invoice object, with or without its lines."""
    found = {"object": "invoice", "id": invoice.id, **plain_json(invoice_object(invoice))}
    if not lines:
        for name in LINE_FIELDS:
            del found[name]
    return found
