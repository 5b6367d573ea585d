"""The table of an invoice's lines in a PDF: grouped by model, headings repeated on every page."""

from decimal import Decimal
from itertools import groupby

from billing.currencies import decimals_of
from billing.exports.page_layout import ACCENT, MARGIN, RULE, SOFT, WIDTH, PageLayout
from billing.invoices.invoices import Invoice, InvoiceLine
from billing.money import plain, total
from core.db.tables.types import MICROS

#: Heading, width in millimetres, alignment; the first column takes the rest of the width.
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


def draw_lines(layout: PageLayout, invoice: Invoice) -> None:
    """Draw every line below the name of its model."""
    _draw_heading(layout, invoice)
    layout.heading = lambda: _draw_heading(layout, invoice)
    for model, lines in groupby(invoice.lines, key=lambda line: line.model):
        _draw_group(layout, invoice, model, list(lines))
    layout.heading = None


def money(amount: Decimal, invoice: Invoice) -> str:
    """Return an amount with as many decimals as the most exact line of the invoice needs."""
    return f"{amount:,.{_decimals(invoice)}f}"


def _decimals(invoice: Invoice) -> int:
    coin = decimals_of(invoice.currency)
    whole = all(line.amount == round(line.amount, coin) for line in invoice.lines)
    return coin if whole else MICROS


def _draw_heading(layout: PageLayout, invoice: Invoice) -> None:
    layout.ink(7.5, "B", SOFT)
    for heading, width, align in COLUMNS:
        text = f"{heading} ({invoice.currency})" if heading == "Amount" else heading
        layout.cell(width, 5, text.upper(), align=align)
    layout.ln(6)
    layout.rule(ACCENT, 0.4)
    layout.ln(1.5)


def _draw_group(
    layout: PageLayout, invoice: Invoice, model: str | None, lines: list[InvoiceLine]
) -> None:
    # Keep a name together with its first lines.
    _make_room(layout, NAME_HEIGHT + 3 * LINE_HEIGHT)
    name = model or "Adjustments"
    if model and lines[0].late:
        name += " (late)"
    _draw_name(layout, name, money(total(*(line.amount for line in lines)), invoice))
    for line in lines:
        if _make_room(layout, _height(layout, line) + PADDING):
            _draw_name(layout, f"{name}, continued", "")
        _draw_line(layout, invoice, line)
    layout.ln(1.5)
    layout.rule(RULE)
    layout.ln(1.5)


def _draw_name(layout: PageLayout, name: str, amount: str) -> None:
    layout.ink(9.5, "B")
    layout.cell(WIDTH - COLUMNS[-1][1], NAME_HEIGHT, name)
    layout.cell(COLUMNS[-1][1], NAME_HEIGHT, amount, align="R")
    layout.ln(NAME_HEIGHT)


def _width(line: InvoiceLine) -> float:
    """Return the width of a description; an adjustment has no figures beside it."""
    columns = COLUMNS[:-1] if line.kind == "adjustment" else COLUMNS[:1]
    return sum(width for _, width, _ in columns) - INDENT


def _height(layout: PageLayout, line: InvoiceLine) -> float:
    layout.ink(SMALL)
    return layout.height_of(line.description, _width(line), LINE_HEIGHT)


def _draw_line(layout: PageLayout, invoice: Invoice, line: InvoiceLine) -> None:
    height, top = _height(layout, line), layout.get_y()
    layout.ink(SMALL, "", SOFT)
    layout.set_x(MARGIN + INDENT)
    layout.multi_cell(_width(line), LINE_HEIGHT, line.description, align="L")
    layout.set_xy(MARGIN + COLUMNS[0][1], top)
    layout.ink(9)
    for text, (_, column, align) in zip(_figures(line, invoice), COLUMNS[1:], strict=True):
        layout.cell(column, LINE_HEIGHT, text, align=align)
    layout.set_xy(MARGIN, top + height + PADDING)


def _figures(line: InvoiceLine, invoice: Invoice) -> tuple[str, str, str, str]:
    amount = money(line.amount, invoice)
    if line.per_million is None:
        return "", "", "", amount
    return f"{line.jobs:,}", f"{line.tokens:,}", _price(line.per_million), amount


def _price(per_million: Decimal) -> str:
    """Write a price with two decimals, or with more if it has more."""
    cents = round(per_million, 2)
    return f"{cents:f}" if cents == per_million else plain(per_million)


def _make_room(layout: PageLayout, height: float) -> bool:
    """Start a page unless there is room on this one; returns whether it did."""
    if layout.room >= height:
        return False
    layout.add_page()
    return True
