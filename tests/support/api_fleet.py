"""API processes that come and go."""

import itertools

from tests.support.processes import Pipeline, PipelineProcess


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
            if process.name == "api" and process.running
        ]

    def port(self) -> int:
        """Return the next live process's port; raises ConnectionError when there is none."""
        alive = self.processes
        if not alive:
            raise ConnectionError("no API process")
        return alive[next(self._turn) % len(alive)].settings.api.port
