"""An invoice as clients see it: what the JSON export holds, with its id."""

from typing import Any

from billing.exports.json_format import invoice_object, plain_json
from billing.invoices.invoices import Invoice

#: They are sums over lines, which a list does not read.
OF_LINES = ("lines", "usage_total", "adjustments_total")


def invoice_view(invoice: Invoice, *, lines: bool = True) -> dict[str, Any]:
    """Return an invoice, with or without its lines."""
    found = {"object": "invoice", "id": invoice.id, **plain_json(invoice_object(invoice))}
    if not lines:
        for name in OF_LINES:
            del found[name]
    return found
