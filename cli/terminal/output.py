"""Prints results to stdout, and messages and failures to stderr."""

import json
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from cli.terminal.failures import Failure
from cli.terminal.plain_console import PlainConsole, styled

#: Wider than any row, for a pipe: ids must not be cut, because people copy them.
TABLE_WIDTH = 400

Row = Sequence[str | Text]

out = PlainConsole()
err = PlainConsole(stderr=True)


def print_failure(failure: Failure) -> None:
    """Print a failure and its advice."""
    err.print(styled(("error:", "bold red"), " ", failure.title), soft_wrap=True)
    for line in failure.advice:
        err.print(f"  {line}", soft_wrap=True)


def print_json(value: Any) -> None:
    """Print one JSON document on one line."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Row], *, nothing: str) -> None:
    """Print rows under headings, or `nothing` to stderr when there are no rows.

    In a terminal that is too narrow, each row is printed as a block with one line for each value,
    because a table that wraps cannot be read, and ids that are cut cannot be copied.
    """
    found = list(rows)
    if not found:
        err.print(nothing)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in found:
        table.add_row(*row)
    wide = PlainConsole(width=TABLE_WIDTH)
    if not out.is_terminal or wide.measure(table).minimum <= out.width:
        wide.print(table)
    else:
        _print_blocks(columns, found)


def _print_blocks(columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Print each row as lines of a heading and a value; empty values are left out."""
    width = max(len(column) for column in columns)
    for number, row in enumerate(rows):
        if number:
            out.print()
        for column, value in zip(columns, row, strict=True):
            if value:
                out.print(styled((f"{column:{width}}", "bold"), "  ", value), soft_wrap=True)


def ago(unix_seconds: float | None) -> str:
    """Return how long ago a time was, in one unit."""
    if not unix_seconds:
        return "-"
    seconds = max(0.0, time.time() - unix_seconds)
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
