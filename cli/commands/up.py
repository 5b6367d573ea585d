"""`penstock up`: the whole pipeline on this machine, from nothing, until Ctrl-C."""

import asyncio
from typing import Annotated

import typer

from cli.connect.settings import load_settings
from cli.connect.state_dir import StateDir
from cli.local.local_run import LocalRun

app = typer.Typer(add_completion=False)


@app.command()
def up(
    demo: Annotated[bool, typer.Option("--demo", help="Run a first job when ready.")] = False,
    leave: Annotated[bool, typer.Option("--exit", help="Stop after the demo.")] = False,
    port: Annotated[int | None, typer.Option(help="The API's port; 0: any free one.")] = None,
) -> None:
    """Start Redis, the API, a worker and the control process; stop them all on Ctrl-C.

    What it keeps lies in .penstock: data, logs, state, the development key.
    """
    settings = load_settings()
    if port is not None:
        api = settings.api.model_copy(update={"port": port})
        settings = settings.model_copy(update={"api": api})
    run = LocalRun(StateDir(), settings, demo=demo, leave=leave)
    raise typer.Exit(asyncio.run(run.run()))
