"""Options that several commands share."""

from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer

from cli.terminal.failures import UsageError

Url = Annotated[
    str | None,
    typer.Option(
        envvar="PENSTOCK_URL", help="The server; default: that of `penstock up` in this directory."
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        envvar=["PENSTOCK_API_KEY", "PENSTOCK_KEY"],
        help="The API key; default: the development key.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def number(name: str, text: str) -> Decimal:
    """Return a decimal exactly as it is written.

    Raises:
        UsageError: it is not a number; `name` names the option.
    """
    try:
        return Decimal(text)
    except InvalidOperation:
        raise UsageError(f"{name}: {text!r} is not a number") from None


def instant(name: str, text: str) -> datetime:
    """Return a time that has a time zone.

    Raises:
        UsageError: it is not a time or has no time zone; `name` names the option.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{name}: {text!r} is not a time such as 2026-12-01T00:00Z") from None
    if found.tzinfo is None:
        raise UsageError(f"{name}: {text!r} has no time zone; append Z for UTC")
    return found
