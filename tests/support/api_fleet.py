"""API processes that a test starts and stops."""

import itertools

from tests.support.processes import Pipeline, PipelineProcess


class ApiFleet:
    """The running API processes; `port` returns their ports in turn."""

    def __init__(self, running: Pipeline) -> None:
        self._running = running
        self._turn = itertools.count()

    @property
    def processes(self) -> list[PipelineProcess]:
        return [
            process
            for process in self._running.processes
            if process.name == "api" and process.running
        ]

    def port(self) -> int:
        """Return the next live process's port; raises ConnectionError when there is none."""
        alive = self.processes
        if not alive:
            raise ConnectionError("no API process")
        return alive[next(self._turn) % len(alive)].settings.api.port
