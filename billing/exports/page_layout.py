"""The page layout of an invoice: fonts, colours, margins, heading and footer.

Invariant: the same content gives the same bytes; the only date inside is the given one.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import font_roboto
from fpdf import FPDF
from fpdf.enums import XPos, YPos

MARGIN = 18.0
WIDTH = 210.0 - 2 * MARGIN
TOP = 16.0
BOTTOM = 20.0

INK = (24, 28, 36)
SOFT = (106, 114, 128)
RULE = (218, 223, 230)
ACCENT = (15, 92, 112)
PAPER = (243, 246, 248)

FONT = "Roboto"
STYLES = {"": "Roboto", "B": "RobotoMedium"}


class PageLayout(FPDF):  # type: ignore[misc]
    """Pages with a footer; `heading` is drawn again on each page after the first."""

    def __init__(self, title: str, foot: str, stamp: datetime) -> None:
        super().__init__(format="A4")
        for style, name in STYLES.items():
            self.add_font(FONT, style, font_roboto.font_files[name])
        self.set_title(title)
        self.set_creator("Penstock")
        self.set_creation_date(stamp)
        self.set_margins(MARGIN, TOP, MARGIN)
        self.c_margin = 0
        self.set_auto_page_break(auto=True, margin=BOTTOM)
        self.alias_nb_pages()
        self.heading: Callable[[], None] | None = None
        self._foot = foot
        self.add_page()

    def header(self) -> None:
        """Repeat the heading; the library calls this for every page."""
        if self.heading is not None:
            self.heading()

    def footer(self) -> None:
        """Write the document's name and the page number; the library calls this for every page."""
        self.set_y(-14)
        self.write_line(self._foot, size=8, colour=SOFT, width=WIDTH * 0.75, height=4)
        number = self.page_no()
        # {nb} becomes the number of pages at the end; assume as many digits as `number` has.
        self.set_xy(MARGIN + WIDTH - self.get_string_width(f"Page {number} of {number}"), -14)
        self.write_line(f"Page {number} of {{nb}}", size=8, colour=SOFT, height=4)

    def ink(self, size: float, style: str = "", colour: tuple[int, int, int] = INK) -> None:
        """Set size, style and colour of the text that follows."""
        self.set_font(FONT, style, size)
        self.set_text_color(*colour)

    def write_line(
        self,
        text: str,
        *,
        size: float = 9.5,
        style: str = "",
        colour: tuple[int, int, int] = INK,
        width: float = WIDTH,
        height: float = 5.0,
        align: str = "L",
    ) -> None:
        """Write one line from the current x position, and move to the next line at the same x."""
        self.ink(size, style, colour)
        options: dict[str, Any] = {"new_x": XPos.LEFT, "new_y": YPos.NEXT}
        self.cell(width, height, text, align=align, **options)

    def write_block(
        self, text: str, *, width: float, size: float = 9.5, colour: tuple[int, int, int] = INK
    ) -> None:
        """Write text on as many lines as it needs."""
        self.ink(size, "", colour)
        options: dict[str, Any] = {"new_x": XPos.LEFT, "new_y": YPos.NEXT}
        self.multi_cell(width, size * 0.5, text, align="L", **options)

    def rule(self, colour: tuple[int, int, int] = RULE, thickness: float = 0.2) -> None:
        """Draw a horizontal line across the page."""
        self.set_draw_color(*colour)
        self.set_line_width(thickness)
        self.line(MARGIN, self.get_y(), MARGIN + WIDTH, self.get_y())

    def height_of(self, text: str, width: float, line: float) -> float:
        """Return the height of a text in the current font, in millimetres."""
        lines = self.multi_cell(width, line, text, align="L", dry_run=True, output="LINES")
        return line * max(1, len(lines))

    @property
    def room(self) -> float:
        """Return the height left on the page, in millimetres."""
        return float(self.h - BOTTOM - self.get_y())
