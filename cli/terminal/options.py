"""Options that several commands share."""

from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer

from cli.terminal.failures import UsageError

Url = Annotated[
    str | None,
    typer.Option(envvar="PENSTOCK_URL", help="The server; else the one `penstock up` runs here."),
]
Key = Annotated[
    str | None,
    typer.Option(envvar="PENSTOCK_KEY", help="The API key; else the development key."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def number(name: str, text: str) -> Decimal:
    """Read a decimal exactly as it was written."""
    try:
        return Decimal(text)
    except InvalidOperation:
        raise UsageError(f"{name}: {text!r} is no number") from None


def instant(name: str, text: str) -> datetime:
    """Read a time that says which instant it is."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{name}: {text!r} is no time; one is written 2026-12-01T00:00Z") from None
    if found.tzinfo is None:
        raise UsageError(f"{name}: {text!r} has no time zone; Z means UTC")
    return found
