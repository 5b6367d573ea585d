"""Runs one process in the foreground, for containers: `penstock redis|api|worker|control|...`.

Invariant: the command replaces itself by that process, so signals reach the process directly.
"""

import os
import sys
from contextlib import suppress
from typing import Annotated

import typer

from cli.connect.embedded_redis import find_program, redis_command
from cli.connect.settings import load_local_settings
from cli.connect.state_dir import StateDir
from cli.terminal.failures import UsageError

app = typer.Typer(add_completion=False)


def _replace_by(module: str) -> None:
    os.environ.setdefault("PYTHONFAULTHANDLER", "1")  # a native crash prints Python's stack
    if StateDir().redis_password() is not None:
        with suppress(UsageError):  # the process says itself what is wrong with its settings
            redis = load_local_settings().redis
            os.environ["PENSTOCK_REDIS__URL"] = redis.url.get_secret_value()
    os.execv(sys.executable, [sys.executable, "-P", "-m", module])  # noqa: S606


@app.command()
def api() -> None:
    """Run an API process (PENSTOCK_API__HOST and PENSTOCK_API__PORT)."""
    _replace_by("api")


@app.command()
def worker() -> None:
    """Run a worker (PENSTOCK_ENGINE__MODEL names the model)."""
    _replace_by("workers")


@app.command()
def control() -> None:
    """Run a control process: it hands on the jobs of workers that died."""
    _replace_by("workers.sweeper")


@app.command()
def ledger() -> None:
    """Run a ledger process: it records the usage of jobs in the billing database."""
    _replace_by("billing.process")


@app.command()
def deliverer() -> None:
    """Run a deliverer: it sends webhooks to accounts."""
    _replace_by("webhooks")


@app.command()
def feeder() -> None:
    """Run a feeder: it submits the requests of batches and deletes expired files."""
    _replace_by("batches")


@app.command()
def redis(
    port: Annotated[int, typer.Option(help="The port on 127.0.0.1.")] = 6399,
) -> None:
    """Run the embedded Redis, with its data in .penstock/redis and a password.

    Processes that are started in the same folder know the password, unless PENSTOCK_REDIS__URL
    names another Redis.
    """
    state_dir = StateDir()
    os.set_inheritable(state_dir.lock(), True)
    state_dir.close_to_others()
    command = redis_command(find_program(), port, state_dir)
    os.execv(command[0], command)  # noqa: S606
