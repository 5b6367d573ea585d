"""`penstock backup` and `penstock restore`: SQL, Redis and files as one set."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.backup.backup_set import Manifest
from cli.backup.run import make_backup
from cli.backup.run import restore as restore_set
from cli.connect.settings import load_local_settings
from cli.terminal.failures import Unreachable
from cli.terminal.options import Json
from cli.terminal.output import err, print_json
from core.errors import DatabaseUnavailable, Overloaded, StoreUnavailable

app = typer.Typer(add_completion=False)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the backup.")]


@app.command()
def backup(
    folder: Folder,
    pause: Annotated[
        float,
        typer.Option(min=0.1, help="The most seconds for which Redis accepts no writes."),
    ] = 10.0,
    as_json: Json = False,
) -> None:
    """Copy SQL, Redis and files, as of one moment, into a new folder. Everything may run."""
    settings = load_local_settings()
    with err.status("") as status:
        manifest = _run(make_backup(settings, folder, pause, status.update))
    _show(folder, manifest, as_json=as_json)


@app.command()
def restore(
    folder: Folder,
    force: Annotated[
        bool, typer.Option("--force", help="Delete the SQL, Redis and files that are there.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: Json = False,
) -> None:
    """Verify a backup and write it into empty stores. Stop all processes first."""
    settings = load_local_settings()
    if force and not yes:
        typer.confirm("Delete everything that is in SQL, Redis and the file store?", abort=True)
    with err.status("") as status:
        manifest = _run(restore_set(settings, folder, status.update, force=force))
    _show(folder, manifest, as_json=as_json)


def _run(work: Coroutine[Any, Any, Manifest]) -> Manifest:
    try:
        return asyncio.run(work)
    except StoreUnavailable as error:
        raise Unreachable("Redis does not answer", error.message, "PENSTOCK_REDIS__URL") from None
    except DatabaseUnavailable as error:
        cause = str(error.__cause__).partition("\n")[0]
        raise Unreachable("the database cannot be used", cause, "PENSTOCK_DATABASE__URL") from None
    except Overloaded as error:
        raise Unreachable("the file store cannot be used", error.message) from None


def _show(folder: Path, manifest: Manifest, *, as_json: bool) -> None:
    counts = {name: manifest.records(name) for name in ("sql", "redis", "files")}
    if as_json:
        print_json({"folder": str(folder), "at": manifest.at, "schema": manifest.schema, **counts})
        return
    typer.echo(
        f"{folder}: {counts['sql']:,} rows, {counts['redis']:,} Redis keys and"
        f" {counts['files']:,} files, as of {manifest.at}"
    )
    if manifest.missing:
        number = len(manifest.missing)
        err.print(f"{number} files were deleted while the backup ran and are not in it.")
