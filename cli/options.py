"""Options that several commands share."""

from typing import Annotated

import typer

Url = Annotated[
    str | None,
    typer.Option(envvar="PENSTOCK_URL", help="The server; else the one `penstock up` runs here."),
]
Key = Annotated[
    str | None,
    typer.Option(envvar="PENSTOCK_KEY", help="The API key; else the development key."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
