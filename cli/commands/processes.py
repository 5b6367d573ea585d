"""One process in the foreground, for containers: `penstock redis|api|worker|control|ledger|...`.

Each becomes the process it starts, so signals reach it directly.
"""

import os
import sys
from typing import Annotated

import typer

from cli.connect.embedded_redis import find_program, redis_command
from cli.connect.state_dir import StateDir

app = typer.Typer(add_completion=False)


def _become(module: str) -> None:
    os.environ.setdefault("PYTHONFAULTHANDLER", "1")  # a native crash leaves Python's stack
    os.execv(sys.executable, [sys.executable, "-P", "-m", module])  # noqa: S606


@app.command()
def api() -> None:
    """Run one API process (host and port: PENSTOCK_API__HOST, PENSTOCK_API__PORT)."""
    _become("api")


@app.command()
def worker() -> None:
    """Run one worker (model: PENSTOCK_ENGINE__MODEL)."""
    _become("workers")


@app.command()
def control() -> None:
    """Run one control process: it picks up what killed workers had."""
    _become("workers.sweeper")


@app.command()
def ledger() -> None:
    """Run one ledger process: it writes what finished jobs used into the billing database."""
    _become("billing.process")


@app.command()
def deliverer() -> None:
    """Run one deliverer: it tells accounts by webhook what happened."""
    _become("webhooks")


@app.command()
def feeder() -> None:
    """Run one feeder: it feeds the lines of batches to the queue, and sweeps files."""
    _become("batches")


@app.command()
def redis(
    port: Annotated[int, typer.Option(help="Listens on 127.0.0.1 only.")] = 6399,
) -> None:
    """Run the embedded Redis, with its data in .penstock/redis."""
    home = StateDir()
    os.set_inheritable(home.lock(), True)
    home.data.mkdir(parents=True, exist_ok=True)
    command = redis_command(find_program(), port, home.data)
    os.execv(command[0], command)  # noqa: S606
