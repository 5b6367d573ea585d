"""PDF: one file per invoice or credit note, named by its number, as a person pays it.

Invariant: every amount of the invoice stands on it, and what is due is its total in whole coins.
"""

import asyncio
from collections.abc import AsyncGenerator
from datetime import datetime, timedelta

from billing.currencies import decimals_of
from billing.exports.content import Chunk, Content
from billing.exports.invoice_table import draw_lines, money
from billing.exports.page_layout import ACCENT, MARGIN, PAPER, RULE, SOFT, TOP, WIDTH, PageLayout
from billing.exports.rows import part
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
    """Return an invoice as a PDF, made when it was issued; a preliminary one when its month was."""
    title = TITLES[invoice.kind] if invoice.issued_at else f"Preliminary {invoice.kind}"
    foot = " · ".join(filter(None, (invoice.seller.name, f"{title} {invoice.number}")))
    sheet = PageLayout(
        f"{title} {invoice.number}", foot, invoice.issued_at or bounds(invoice.month)[0]
    )
    _draw_head(sheet, invoice, title)
    _draw_parties(sheet, invoice)
    _draw_due(sheet, invoice)
    draw_lines(sheet, invoice)
    _draw_totals(sheet, invoice)
    _draw_notes(sheet, invoice)
    return bytes(sheet.output())


def _draw_head(sheet: PageLayout, invoice: Invoice, title: str) -> None:
    seller = invoice.seller
    sheet.write_line(title, size=24, style="B", colour=ACCENT, align="R", height=10)
    sheet.write_line(invoice.number, size=10.5, colour=SOFT, align="R", height=6)
    after = sheet.get_y()
    sheet.set_xy(MARGIN, TOP + 1.5)
    sheet.write_line(seller.name, size=14, style="B", height=8, width=HALF)
    text = "\n".join(filter(None, (lines_of(seller.address), seller.email, _tax(seller.tax_id))))
    if text:
        sheet.write_block(text, width=HALF, size=9, colour=SOFT)
    sheet.set_y(max(after, sheet.get_y()) + 7)
    sheet.rule()
    sheet.ln(7)


def _draw_parties(sheet: PageLayout, invoice: Invoice) -> None:
    top = sheet.get_y()
    sheet.write_line("BILLED TO", size=7.5, style="B", colour=SOFT, height=5)
    sheet.write_line(invoice.billing_name, size=10.5, style="B", height=6, width=HALF)
    text = "\n".join(filter(None, (lines_of(invoice.billing_address), _tax(invoice.tax_id))))
    if text:
        sheet.write_block(text, width=HALF - 6)
    below = sheet.get_y()
    sheet.set_y(top)
    for label, value in _facts(invoice):
        sheet.set_x(MARGIN + HALF + 8)
        sheet.ink(9, "", SOFT)
        sheet.cell(LABEL, 5.4, label)
        sheet.ink(9.5)
        sheet.cell(HALF - 8 - LABEL, 5.4, value, align="R")
        sheet.ln(5.4)
    sheet.set_y(max(below, sheet.get_y()) + 8)


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


def _draw_due(sheet: PageLayout, invoice: Invoice) -> None:
    """Draw the one figure that matters, in a box."""
    height = 18.0
    top = sheet.get_y()
    sheet.set_fill_color(*PAPER)
    sheet.rect(MARGIN, top, WIDTH, height, style="F", round_corners=True, corner_radius=2)
    label, when = _asked(invoice)
    sheet.set_xy(MARGIN + 6, top + 4)
    sheet.write_line(label, size=10.5, style="B", height=5.5, width=HALF)
    sheet.set_x(MARGIN + 6)
    sheet.write_line(when, size=9, colour=SOFT, height=4.5, width=HALF)
    sheet.set_xy(MARGIN + HALF, top + 4)
    amount = coins(invoice)
    sheet.write_line(
        amount, size=18, style="B", colour=ACCENT, width=HALF - 6, height=10, align="R"
    )
    sheet.set_xy(MARGIN, top + height + 8)


def _asked(invoice: Invoice) -> tuple[str, str]:
    """Return what the amount is, and a line below it."""
    if invoice.issued_at is None:
        return "So far", "The month is not closed: this is no invoice, and nothing is due."
    if invoice.due <= 0:
        label = "Credit in your favour" if invoice.due else "Amount due"
        return label, "Nothing is to be paid."
    until = invoice.due_at
    return "Amount due", f"Please pay by {day(until)}" if until else ""


def _draw_totals(sheet: PageLayout, invoice: Invoice) -> None:
    usage, adjustments = part(invoice, "usage"), part(invoice, "adjustment")
    rows = [("Usage", usage), ("Adjustments", adjustments)] if usage and adjustments else []
    rounding = total(invoice.due, -invoice.total)
    rows.append(("Total", invoice.total))
    if rounding:
        rows.append(("Rounding", rounding))
    if sheet.room < 6 * len(rows) + 14:
        sheet.heading = None
        sheet.add_page()
    sheet.ln(3)
    for label, value in rows:
        _draw_total(sheet, label, money(value, invoice), 9.5, "")
    sheet.ln(1)
    sheet.set_draw_color(*RULE)
    sheet.line(MARGIN + HALF, sheet.get_y(), MARGIN + WIDTH, sheet.get_y())
    sheet.ln(1.5)
    label, _ = _asked(invoice)
    _draw_total(sheet, label, coins(invoice), 11.5, "B")


def _draw_total(sheet: PageLayout, label: str, value: str, size: float, style: str) -> None:
    sheet.set_x(MARGIN + HALF)
    sheet.ink(size, style)
    sheet.cell(HALF / 2, 6, label)
    sheet.cell(HALF / 2, 6, value, align="R")
    sheet.ln(6)


def _draw_notes(sheet: PageLayout, invoice: Invoice) -> None:
    payment = lines_of(invoice.seller.payment) if invoice.due > 0 and invoice.issued_at else ""
    notes = (("PAYMENT", payment), ("TAX", lines_of(invoice.tax_note)))
    sheet.heading = None
    for label, text in notes:
        if text:
            if sheet.room < 26:
                sheet.add_page()
            sheet.ln(7)
            sheet.write_line(label, size=7.5, style="B", colour=SOFT, height=5)
            sheet.write_block(text, width=WIDTH, size=9)


def coins(invoice: Invoice) -> str:
    """Return what is due, as it is paid; the label beside it says to whom."""
    return f"{invoice.currency} {abs(invoice.due):,.{decimals_of(invoice.currency)}f}"


def day(instant: datetime) -> str:
    """Return a UTC day as people of every country read it."""
    return f"{instant.day} {instant:%B %Y}"


def lines_of(text: str) -> str:
    """Return a text of settings with its line breaks."""
    return "\n".join(line.strip() for line in text.replace("|", "\n").splitlines())


def _tax(number: str) -> str:
    return f"Tax number {number}" if number else ""
