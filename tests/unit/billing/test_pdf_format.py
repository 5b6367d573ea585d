"""An invoice as a PDF: any text, any length, any currency, and the same bytes each time."""

import re
import zlib
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from billing.exports.invoice_table import money
from billing.exports.pdf_format import coins, day, lines_of, render
from billing.invoices.invoices import Invoice, InvoiceLine
from core.settings.billing import SellerSettings

ISSUED = datetime(2026, 11, 1, 3, tzinfo=UTC)
SELLER = SellerSettings(
    name="Sluice GmbH", address="Am Wehr 1|Berlin", tax_id="DE1", payment="Bank|IBAN 1"
)


def a_line(amount: str = "1.5", **fields: Any) -> InvoiceLine:
    values: dict[str, Any] = {
        "kind": "usage",
        "description": "Input, price of 2026-10-01",
        "amount": Decimal(amount),
        "model": "m",
        "per_million": Decimal("0.2"),
        "jobs": 12,
        "tokens": 7_500_000,
    }
    return InvoiceLine(**values | fields)


def an_invoice(*lines: InvoiceLine, **fields: Any) -> Invoice:
    values: dict[str, Any] = {
        "id": "inv_1",
        "number": "INV-2026-10-0001",
        "kind": "invoice",
        "corrects": None,
        "account_id": "acme",
        "month": "2026-10",
        "currency": "USD",
        "billing_name": "Acme Ltd",
        "billing_address": "1 Dam Road\nWeir",
        "tax_id": "GB9",
        "tax_note": "Reverse charge",
        "seller": SELLER,
        "total": sum((line.amount for line in lines), Decimal(0)),
        "issued_at": ISSUED,
        "lines": lines,
    }
    return Invoice(**values | fields)


def pages(data: bytes) -> int:
    found = re.search(rb"/Count (\d+)", data)
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize(
    "invoice",
    [
        an_invoice(a_line()),
        an_invoice(),
        an_invoice(a_line(), issued_at=None, seller=SellerSettings()),
        an_invoice(a_line("-3", model=None), kind="credit_note", corrects="INV-1"),
        an_invoice(a_line("-3", kind="adjustment", model=None), a_line("1")),
        an_invoice(a_line(), billing_name="Żółć Řesearch Ελλάδα Київ"),
        an_invoice(a_line(), billing_name="株式会社 🦊 \u202eabc"),
        an_invoice(a_line(model="m" * 128), a_line(description="x" * 3_000)),
        an_invoice(a_line(), tax_note="note " * 2_000),
        an_invoice(a_line(), billing_address="line\n" * 60),
        an_invoice(a_line("123456789012.123456"), currency="KWD"),
    ],
    ids=str,
)  # fmt: skip
def test_any_invoice_is_printed_to_the_same_bytes(invoice: Invoice) -> None:
    data = render(invoice)

    assert data.startswith(b"%PDF-")
    assert data.rstrip().endswith(b"%%EOF")
    assert data == render(invoice)
    date = b"20261101030000" if invoice.issued_at else b"20261001000000"
    assert b"/CreationDate (D:" + date in data


def test_a_long_invoice_has_its_heading_on_every_page() -> None:
    invoice = an_invoice(*(a_line(model=f"model-{number // 9}") for number in range(200)))
    data = render(invoice)

    assert pages(data) > 4
    # The heading ends in a rule that is as thick as no other.
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", data, re.DOTALL)
    drawn = [zlib.decompress(stream) for stream in streams if stream.startswith(b"x")]
    assert sum(b"\n1.13 w" in stream for stream in drawn) >= pages(data) - 1


def test_amounts_have_the_decimals_the_invoice_needs() -> None:
    coarse, exact = an_invoice(a_line("1234.5")), an_invoice(a_line("1234.567891"))

    assert money(coarse.total, coarse) == "1,234.50"
    assert money(exact.total, exact) == "1,234.567891"
    assert coins(exact) == "USD 1,234.57"
    yen = an_invoice(a_line("1234.5"), currency="JPY")
    assert coins(yen) == "JPY 1,235"


def test_days_and_addresses_read_as_written() -> None:
    assert day(ISSUED) == "1 November 2026"
    assert lines_of("Am Wehr 1| Berlin\nGermany ") == "Am Wehr 1\nBerlin\nGermany"
