"""`penstock bills export`: writes a month's bills to files, with a progress bar."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from billing.exports.content import ExportRequest
from billing.exports.export_folder import Exported, export_month
from billing.exports.formats import SUMS, Format
from cli.connect.actor import actor
from cli.connect.database import with_database
from cli.connect.settings import load_settings
from cli.terminal.options import Json
from cli.terminal.output import err, print_json

#: Files that are printed by name; a month may have thousands of invoices.
LISTED = 10


def export(
    month: Annotated[str, typer.Option(help="A UTC month, such as 2026-10.")],
    as_format: Annotated[Format, typer.Option("--format", help="The format of the files.")],
    out: Annotated[
        Path, typer.Option(help="The folder in which the folder of files is created.")
    ] = Path(),
    account: Annotated[str | None, typer.Option(help="Only this account.")] = None,
    preliminary: Annotated[
        bool, typer.Option("--preliminary", help="Export a month that is not closed yet.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write a month's bills to files: summary, lines and usage, or one PDF per invoice."""
    settings = load_settings()
    wanted = ExportRequest(month, account, preliminary)
    with Progress(
        TextColumn(f"{month} as {as_format}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err,
        transient=True,
    ) as bar:
        task = bar.add_task("", total=None)
        exported = with_database(
            lambda database: export_month(
                database,
                wanted,
                as_format,
                out,
                settings.seller,
                actor=actor(),
                progress=lambda done, events: bar.update(task, completed=done, total=events),
            )
        )
    if as_json:
        print_json(_shown(exported))
        return
    typer.echo(exported.folder)
    for file in exported.files[:LISTED]:
        err.print(f"  {file.name}  {file.size:,} bytes")
    if len(exported.files) > LISTED:
        err.print(f"  and {len(exported.files) - LISTED:,} more")
    if not exported.files:
        err.print(f"  {month} has no invoices{f' of {account}' if account else ''}.")
    if exported.preliminary:
        err.print("Preliminary: the month is not closed, so this is not an invoice.")
    if exported.unchanged:
        err.print("The files existed already, with the same content.")
    if exported.restored:
        names = ", ".join(exported.restored)
        err.print(f"Written again, since they had been changed or removed: {names}.")
    err.print(f"Checksums are in {SUMS}.")


def _shown(exported: Exported) -> dict[str, Any]:
    return {
        "folder": str(exported.folder),
        "preliminary": exported.preliminary,
        "unchanged": exported.unchanged,
        "restored": list(exported.restored),
        "files": [
            {"name": file.name, "size": file.size, "sha256": file.sha256, "rows": file.rows}
            for file in exported.files
        ],
    }
