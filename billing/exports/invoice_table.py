"""The lines of an invoice as a table: models as groups, its head repeated on every page."""

from decimal import Decimal
from itertools import groupby

from billing.currencies import decimals_of
from billing.exports.page_layout import ACCENT, MARGIN, RULE, SOFT, WIDTH, PageLayout
from billing.invoices.invoices import Invoice, InvoiceLine
from billing.money import plain, total
from core.db.tables.types import MICROS

#: Heading, width, alignment; the first column has the rest of the width.
COLUMNS = (
    ("Description", WIDTH - 98, "L"),
    ("Jobs", 18.0, "R"),
    ("Tokens", 29.0, "R"),
    ("Per million", 22.0, "R"),
    ("Amount", 29.0, "R"),
)
LINE_HEIGHT = 4.6
PADDING = 1.2
INDENT = 3.0
SMALL = 8.7
NAME_HEIGHT = 6.5


def draw_lines(sheet: PageLayout, invoice: Invoice) -> None:
    """Draw every line, under its model."""
    _draw_heading(sheet, invoice)
    sheet.heading = lambda: _draw_heading(sheet, invoice)
    for model, lines in groupby(invoice.lines, key=lambda line: line.model):
        _draw_group(sheet, invoice, model, list(lines))
    sheet.heading = None


def money(amount: Decimal, invoice: Invoice) -> str:
    """Return an amount with as many decimals as the most exact line of its invoice needs."""
    return f"{amount:,.{_decimals(invoice)}f}"


def _decimals(invoice: Invoice) -> int:
    coin = decimals_of(invoice.currency)
    whole = all(line.amount == round(line.amount, coin) for line in invoice.lines)
    return coin if whole else MICROS


def _draw_heading(sheet: PageLayout, invoice: Invoice) -> None:
    sheet.ink(7.5, "B", SOFT)
    for heading, width, align in COLUMNS:
        text = f"{heading} ({invoice.currency})" if heading == "Amount" else heading
        sheet.cell(width, 5, text.upper(), align=align)
    sheet.ln(6)
    sheet.rule(ACCENT, 0.4)
    sheet.ln(1.5)


def _draw_group(
    sheet: PageLayout, invoice: Invoice, model: str | None, lines: list[InvoiceLine]
) -> None:
    # A name never stands alone at the end of a page.
    _make_room(sheet, NAME_HEIGHT + 3 * LINE_HEIGHT)
    name = model or "Adjustments"
    if model and lines[0].late:
        name += " (late)"
    _draw_name(sheet, name, money(total(*(line.amount for line in lines)), invoice))
    for line in lines:
        if _make_room(sheet, _height(sheet, line) + PADDING):
            _draw_name(sheet, f"{name}, continued", "")
        _draw_line(sheet, invoice, line)
    sheet.ln(1.5)
    sheet.rule(RULE)
    sheet.ln(1.5)


def _draw_name(sheet: PageLayout, name: str, amount: str) -> None:
    sheet.ink(9.5, "B")
    sheet.cell(WIDTH - COLUMNS[-1][1], NAME_HEIGHT, name)
    sheet.cell(COLUMNS[-1][1], NAME_HEIGHT, amount, align="R")
    sheet.ln(NAME_HEIGHT)


def _width(line: InvoiceLine) -> float:
    """Return how wide a description may be: an adjustment has no figures beside it."""
    columns = COLUMNS[:-1] if line.kind == "adjustment" else COLUMNS[:1]
    return sum(width for _, width, _ in columns) - INDENT


def _height(sheet: PageLayout, line: InvoiceLine) -> float:
    sheet.ink(SMALL)
    return sheet.height_of(line.description, _width(line), LINE_HEIGHT)


def _draw_line(sheet: PageLayout, invoice: Invoice, line: InvoiceLine) -> None:
    height, top = _height(sheet, line), sheet.get_y()
    sheet.ink(SMALL, "", SOFT)
    sheet.set_x(MARGIN + INDENT)
    sheet.multi_cell(_width(line), LINE_HEIGHT, line.description, align="L")
    sheet.set_xy(MARGIN + COLUMNS[0][1], top)
    sheet.ink(9)
    for text, (_, column, align) in zip(_figures(line, invoice), COLUMNS[1:], strict=True):
        sheet.cell(column, LINE_HEIGHT, text, align=align)
    sheet.set_xy(MARGIN, top + height + PADDING)


def _figures(line: InvoiceLine, invoice: Invoice) -> tuple[str, str, str, str]:
    amount = money(line.amount, invoice)
    if line.per_million is None:
        return "", "", "", amount
    return f"{line.jobs:,}", f"{line.tokens:,}", _price(line.per_million), amount


def _price(per_million: Decimal) -> str:
    """Write a price with two decimals, or more if it has more."""
    cents = round(per_million, 2)
    return f"{cents:f}" if cents == per_million else plain(per_million)


def _make_room(sheet: PageLayout, height: float) -> bool:
    """Begin a page unless there is room on this one; says whether it did."""
    if sheet.room >= height:
        return False
    sheet.add_page()
    return True
