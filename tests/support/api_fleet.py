"""API processes that come and go, with one key for their clients."""

import itertools
from pathlib import Path

from jobs.accounts import KeyFile
from tests.support.processes import Pipeline, PipelineProcess

ACCOUNT = "acme"


def make_key(directory: Path) -> tuple[Path, str]:
    """Create a key file; returns it and the one key in it."""
    path = directory / "keys.json"
    key, _ = KeyFile(path).create(ACCOUNT, "test")
    return path, key


class ApiFleet:
    """The API processes that run now; `port` gives clients one after the other."""

    def __init__(self, running: Pipeline) -> None:
        self._running = running
        self._turn = itertools.count()

    @property
    def processes(self) -> list[PipelineProcess]:
        return [
            process
            for process in self._running.processes
            if process.name == "api" and process.process.poll() is None
        ]

    def port(self) -> int:
        """Return the next live process's port; raises ConnectionError when there is none."""
        alive = self.processes
        if not alive:
            raise ConnectionError("no API process")
        return alive[next(self._turn) % len(alive)].settings.api.port
