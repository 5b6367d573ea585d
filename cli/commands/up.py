"""`penstock up`: runs the whole pipeline on this machine until Ctrl-C."""

import asyncio
from typing import Annotated

import typer

from cli.connect.settings import load_settings
from cli.connect.state_dir import StateDir
from cli.local.local_run import LocalRun

app = typer.Typer(add_completion=False)


@app.command()
def up(
    demo: Annotated[
        bool, typer.Option("--demo", help="Run two example jobs when the pipeline is ready.")
    ] = False,
    leave: Annotated[
        bool, typer.Option("--exit", help="Stop when the pipeline is ready, or after the demo.")
    ] = False,
    port: Annotated[int | None, typer.Option(help="The API's port; 0: any free port.")] = None,
) -> None:
    """Start Redis, the API, a worker and all other processes; stop them on Ctrl-C.

    It keeps its data, logs, state and development key in .penstock.
    """
    settings = load_settings()
    if port is not None:
        api = settings.api.model_copy(update={"port": port})
        settings = settings.model_copy(update={"api": api})
    run = LocalRun(StateDir(), settings, demo=demo, leave=leave)
    raise typer.Exit(asyncio.run(run.run()))
