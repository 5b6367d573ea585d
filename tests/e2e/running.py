"""A pipeline started by the real command in a directory of its own, as a user does it."""

import json
import os
from pathlib import Path
from typing import Any

import psutil

from core.runtime.child_process import ChildProcess, Program
from tests.support import commands
from tests.support.commands import PENSTOCK, Done
from tests.support.environment import inherited
from tests.support.machine import bound

START_SECONDS = 180.0
STOP_SECONDS = 60.0
READY = "Ctrl-C stops everything"


def environment(**more: str) -> dict[str, str]:
    """Return a clean environment with free ports."""
    ports = {"PENSTOCK_API__PORT": "0", "PENSTOCK_WORKER__HEALTH_PORT": "0"}
    return {**inherited(), **ports, "COLUMNS": "200", **more}


def path_without_redis(directory: Path) -> str:
    """Return a PATH whose Redis is too old, so that the Valkey that came with pip is used."""
    old = directory / "redis-server"
    directory.mkdir()
    old.write_text("#!/bin/sh\necho 'Redis server v=6.0.16 sha=0'\n")
    old.chmod(0o755)
    return f"{directory}{os.pathsep}{os.environ['PATH']}"


SIMULATED = environment(PENSTOCK_ENGINE__KIND="simulated")


def penstock(
    directory: Path, *words: str, env: dict[str, str] = SIMULATED, seconds: float = 60.0
) -> Done:
    """Run one command to its end."""
    return commands.penstock(*words, directory=directory, env=env, seconds=seconds)


class Up(ChildProcess):
    """A running `penstock up`."""

    def __init__(self, directory: Path, *words: str, env: dict[str, str] = SIMULATED) -> None:
        self.directory = directory
        command = [str(PENSTOCK), "up", *words]
        log = directory / "up.out"
        log.unlink(missing_ok=True)  # one run follows the other in a directory
        stop = bound(STOP_SECONDS)
        super().__init__(Program("up", command, log, env, directory, stop_seconds=stop))
        self.begin()

    async def says(self, text: str) -> bool:
        """Return whether it printed this; fail if it ended without."""
        if text in self.output():
            return True
        assert self.running, self.output()
        return False

    @property
    def state(self) -> dict[str, Any]:
        """What it wrote about itself."""
        state: dict[str, Any] = json.loads((self.directory / ".penstock/state.json").read_text())
        return state

    def child(self, name: str) -> int:
        """Return a child's process id."""
        return int(self.state["children"][name])


def processes_in(directory: Path) -> list[str]:
    """Return the command lines of the processes that work in this directory."""
    found = []
    for process in psutil.process_iter():
        try:
            inside = Path(process.cwd()).is_relative_to(directory)
            if inside and process.status() != psutil.STATUS_ZOMBIE:
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found
