"""A console on which text is only text, also names that other people chose.

Invariant: no text is read as markup, emoji codes or commands to the terminal; style comes from
`styled` alone. Into a pipe, a string goes unchanged.
"""

import re
from typing import Any

from rich.console import Console
from rich.text import Text

#: A piece of text, or a piece with its style.
Part = str | tuple[str, str] | Text

#: Control characters except tab and line feed, and those that change the direction of text.
COMMANDS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class PlainConsole(Console):
    """Prints text as it is; on a terminal, control characters are shown in their notation."""

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Convert a string that is printed, also one in a table."""
        return super().render_str(visible(text) if self.is_terminal else text, **options)


def visible(text: str) -> str:
    """Return text with its control characters in Python's notation."""
    return COMMANDS.sub(lambda found: ascii(found[0])[1:-1], text)


def styled(*parts: Part) -> Text:
    """Join texts of which some have a style, such as `("failed", "red")`."""
    return Text.assemble(*map(_visible, parts))


def _visible(part: Part) -> Part:
    if isinstance(part, tuple):
        return visible(part[0]), part[1]
    return visible(part) if isinstance(part, str) else part
