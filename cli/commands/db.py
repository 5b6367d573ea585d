"""`penstock db`: creates, upgrades and checks the tables of the billing database."""

import time
from typing import Annotated

import typer
from sqlalchemy.exc import SQLAlchemyError

from cli.connect.settings import load_settings
from cli.terminal.failures import Failure, Unreachable
from core.db.schema_version import is_behind, revisions, upgrade

POLL_SECONDS = 0.5

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Upgrade and check the tables of the billing database (PENSTOCK_DATABASE__URL).",
)


@app.command("upgrade")
def upgrade_tables() -> None:
    """Upgrade the tables to this program's version; does nothing when they have it."""
    settings = load_settings().database
    try:
        before, head = revisions(settings)
        upgrade(settings)
    except SQLAlchemyError as error:
        raise _failed(error) from None
    typer.echo(f"at {head} already" if before == head else f"from {before or 'nothing'} to {head}")


@app.command()
def status() -> None:
    """Print the version of the tables. Exit code 1: it is not this program's version."""
    try:
        current, head = revisions(load_settings().database)
    except SQLAlchemyError as error:
        raise _failed(error) from None
    if current != head:
        raise Failure(
            f"the tables are at {current or 'nothing'}, not {head}", "penstock db upgrade"
        )
    typer.echo(f"at {head}")


@app.command()
def wait(
    seconds: Annotated[float, typer.Option(min=0, help="Give up after this many seconds.")] = 300.0,
) -> None:
    """Wait until the tables have this program's version or a newer one; for containers."""
    settings = load_settings().database
    deadline = time.monotonic() + seconds
    while True:
        failure: Failure = Failure("the tables are not at this version yet", "penstock db upgrade")
        try:
            if not is_behind(settings):
                return
        except SQLAlchemyError as error:
            failure = _failed(error)
        if time.monotonic() >= deadline:
            raise failure
        time.sleep(POLL_SECONDS)


def _failed(error: SQLAlchemyError) -> Unreachable:
    text = str(getattr(error, "orig", None) or error).partition("\n")[0]
    return Unreachable("the billing database cannot be used", text)
