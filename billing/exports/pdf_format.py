"""PDF: one file per invoice or credit note, named by its number.

Invariant: every amount of the invoice is on it; the amount due is its total in the currency's
smallest unit.
"""

import asyncio
from collections.abc import AsyncGenerator
from datetime import datetime, timedelta

from billing.currencies import decimals_of
from billing.exports.content import Chunk, Content
from billing.exports.invoice_table import draw_lines, money
from billing.exports.page_layout import ACCENT, MARGIN, PAPER, RULE, SOFT, TOP, WIDTH, PageLayout
from billing.exports.rows import sum_of_kind
from billing.invoices.invoices import Invoice
from billing.money import total
from billing.months import bounds

TITLES = {"invoice": "Invoice", "credit_note": "Credit note"}
HALF = WIDTH / 2
LABEL = 34.0


async def write(content: Content) -> AsyncGenerator[Chunk, None]:
    """Yield a file per invoice."""
    async for invoice in content.invoices():
        data = await asyncio.to_thread(render, invoice)
        yield Chunk(f"{invoice.number}.pdf", data)


def render(invoice: Invoice) -> bytes:
    """Return an invoice as a PDF, dated at its issue; a draft at the start of its month."""
    title = TITLES[invoice.kind] if invoice.issued_at else f"Preliminary {invoice.kind}"
    foot = " · ".join(filter(None, (invoice.seller.name, f"{title} {invoice.number}")))
    layout = PageLayout(
        f"{title} {invoice.number}", foot, invoice.issued_at or bounds(invoice.month)[0]
    )
    _draw_head(layout, invoice, title)
    _draw_parties(layout, invoice)
    _draw_due(layout, invoice)
    draw_lines(layout, invoice)
    _draw_totals(layout, invoice)
    _draw_notes(layout, invoice)
    return bytes(layout.output())


def _draw_head(layout: PageLayout, invoice: Invoice, title: str) -> None:
    seller = invoice.seller
    layout.write_line(title, size=24, style="B", colour=ACCENT, align="R", height=10)
    layout.write_line(invoice.number, size=10.5, colour=SOFT, align="R", height=6)
    after = layout.get_y()
    layout.set_xy(MARGIN, TOP + 1.5)
    layout.write_line(seller.name, size=14, style="B", height=8, width=HALF)
    text = "\n".join(filter(None, (lines_of(seller.address), seller.email, _tax(seller.tax_id))))
    if text:
        layout.write_block(text, width=HALF, size=9, colour=SOFT)
    layout.set_y(max(after, layout.get_y()) + 7)
    layout.rule()
    layout.ln(7)


def _draw_parties(layout: PageLayout, invoice: Invoice) -> None:
    top = layout.get_y()
    layout.write_line("BILLED TO", size=7.5, style="B", colour=SOFT, height=5)
    layout.write_line(invoice.billing_name, size=10.5, style="B", height=6, width=HALF)
    text = "\n".join(filter(None, (lines_of(invoice.billing_address), _tax(invoice.tax_id))))
    if text:
        layout.write_block(text, width=HALF - 6)
    below = layout.get_y()
    layout.set_y(top)
    for label, value in _facts(invoice):
        layout.set_x(MARGIN + HALF + 8)
        layout.ink(9, "", SOFT)
        layout.cell(LABEL, 5.4, label)
        layout.ink(9.5)
        layout.cell(HALF - 8 - LABEL, 5.4, value, align="R")
        layout.ln(5.4)
    layout.set_y(max(below, layout.get_y()) + 8)


def _facts(invoice: Invoice) -> list[tuple[str, str]]:
    first, end = bounds(invoice.month)
    last = end - timedelta(days=1)
    facts = [("Number", invoice.number)]
    if invoice.corrects:
        facts.append(("Corrects", invoice.corrects))
    if invoice.issued_at:
        facts.append(("Date of issue", day(invoice.issued_at)))
    if invoice.kind == "invoice":
        facts.append(("Period (UTC)", f"{first.day} to {day(last)}"))
    if invoice.due_at and invoice.kind == "invoice":
        facts.append(("Payment due", day(invoice.due_at)))
    return [*facts, ("Account", invoice.account_id)]


def _draw_due(layout: PageLayout, invoice: Invoice) -> None:
    """Draw the amount due in a box."""
    height = 18.0
    top = layout.get_y()
    layout.set_fill_color(*PAPER)
    layout.rect(MARGIN, top, WIDTH, height, style="F", round_corners=True, corner_radius=2)
    label, when = _due_text(invoice)
    layout.set_xy(MARGIN + 6, top + 4)
    layout.write_line(label, size=10.5, style="B", height=5.5, width=HALF)
    layout.set_x(MARGIN + 6)
    layout.write_line(when, size=9, colour=SOFT, height=4.5, width=HALF)
    layout.set_xy(MARGIN + HALF, top + 4)
    amount = coins(invoice)
    layout.write_line(
        amount, size=18, style="B", colour=ACCENT, width=HALF - 6, height=10, align="R"
    )
    layout.set_xy(MARGIN, top + height + 8)


def _due_text(invoice: Invoice) -> tuple[str, str]:
    """Return the label of the amount due, and the line below it."""
    if invoice.issued_at is None:
        return "So far", "The month is not closed: this is no invoice, and nothing is due."
    if invoice.due <= 0:
        label = "Credit in your favour" if invoice.due else "Amount due"
        return label, "Nothing is to be paid."
    until = invoice.due_at
    return "Amount due", f"Please pay by {day(until)}" if until else ""


def _draw_totals(layout: PageLayout, invoice: Invoice) -> None:
    usage, adjustments = sum_of_kind(invoice, "usage"), sum_of_kind(invoice, "adjustment")
    rows = [("Usage", usage), ("Adjustments", adjustments)] if usage and adjustments else []
    rounding = total(invoice.due, -invoice.total)
    rows.append(("Total", invoice.total))
    if rounding:
        rows.append(("Rounding", rounding))
    if layout.room < 6 * len(rows) + 14:
        layout.heading = None
        layout.add_page()
    layout.ln(3)
    for label, value in rows:
        _draw_total(layout, label, money(value, invoice), 9.5, "")
    layout.ln(1)
    layout.set_draw_color(*RULE)
    layout.line(MARGIN + HALF, layout.get_y(), MARGIN + WIDTH, layout.get_y())
    layout.ln(1.5)
    label, _ = _due_text(invoice)
    _draw_total(layout, label, coins(invoice), 11.5, "B")


def _draw_total(layout: PageLayout, label: str, value: str, size: float, style: str) -> None:
    layout.set_x(MARGIN + HALF)
    layout.ink(size, style)
    layout.cell(HALF / 2, 6, label)
    layout.cell(HALF / 2, 6, value, align="R")
    layout.ln(6)


def _draw_notes(layout: PageLayout, invoice: Invoice) -> None:
    payment = lines_of(invoice.seller.payment) if invoice.due > 0 and invoice.issued_at else ""
    notes = (("PAYMENT", payment), ("TAX", lines_of(invoice.tax_note)))
    layout.heading = None
    for label, text in notes:
        if text:
            if layout.room < 26:
                layout.add_page()
            layout.ln(7)
            layout.write_line(label, size=7.5, style="B", colour=SOFT, height=5)
            layout.write_block(text, width=WIDTH, size=9)


def coins(invoice: Invoice) -> str:
    """Return the amount due as text, without a sign: the label beside it says who pays."""
    return f"{invoice.currency} {abs(invoice.due):,.{decimals_of(invoice.currency)}f}"


def day(instant: datetime) -> str:
    """Return a UTC day in a form that cannot be misread, such as 3 October 2026."""
    return f"{instant.day} {instant:%B %Y}"


def lines_of(text: str) -> str:
    """Return a setting's text with `|` as line breaks."""
    return "\n".join(line.strip() for line in text.replace("|", "\n").splitlines())


def _tax(number: str) -> str:
    return f"Tax number {number}" if number else ""
