"""Starts real processes of the pipeline as a user or an orchestrator does."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2

from core.runtime.child_process import ChildProcess, Program, answers, free_port, variables
from core.settings.tree import Settings
from tests.support.environment import inherited
from tests.support.machine import bound

ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 120.0


def environment(settings: Settings) -> dict[str, str]:
    """Return the environment variables that express these settings."""
    env = {**inherited(), **variables(settings)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # compiling vLLM anew costs 10 s a process
    return {**env, "OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}


class PipelineProcess(ChildProcess):
    """One process; it is ready when its probe, if it has one, answers."""

    def __init__(
        self, name: str, settings: Settings, log: Path, *command: str, probe: int | None = None
    ) -> None:
        self.settings = settings
        self._probe = f"http://127.0.0.1:{probe}/ready" if probe else None
        super().__init__(
            Program(
                name,
                [sys.executable, "-m", *command],
                log,
                environment(settings),
                log.parent,
                start_seconds=START_SECONDS,
                patience=bound,
            )
        )

    def ready(self) -> bool:
        """Return whether its probe answers 200."""
        return super().ready() if self._probe is None else answers(self._probe)


class Pipeline:
    """Starts processes that share one store, and stops them all at the end."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self.settings = settings
        self._directory = directory
        self.processes: list[PipelineProcess] = []

    def first(self, name: str) -> PipelineProcess:
        """Return the first process of this name."""
        return next(process for process in self.processes if process.name == name)

    def _begin(
        self, name: str, settings: Settings, *command: str, probe: int | None = None
    ) -> PipelineProcess:
        log = self._directory / f"{name}-{len(self.processes)}.log"
        process = PipelineProcess(name, settings, log, *command, probe=probe)
        self.processes.append(process)
        process.begin()
        return process

    def _begin_part(self, name: str, group: str, module: str) -> PipelineProcess:
        """Start a process whose health port is in its settings group."""
        port = free_port()
        given = getattr(self.settings, group).model_dump(exclude_unset=True)
        own = self._with(**{group: {**given, "health_port": port}})
        return self._begin(name, own, module, probe=port)

    def begin_worker(self, health_port: int | None = None, **engine: Any) -> PipelineProcess:
        """Start a worker without waiting for its model; `engine` are changed engine settings."""
        port = health_port or free_port()
        worker = {**self.settings.worker.model_dump(exclude_unset=True), "health_port": port}
        own = {**self.settings.engine.model_dump(exclude_unset=True), **engine}
        return self._begin("worker", self._with(worker=worker, engine=own), "workers", probe=port)

    def worker(self) -> PipelineProcess:
        """Start a worker and wait until its model is warm."""
        process = self.begin_worker()
        process.wait_until_ready()
        return process

    def control(self) -> PipelineProcess:
        """Start a control process (the sweeper) without waiting for it."""
        return self._begin_part("control", "control", "workers.sweeper")

    def ledger(self) -> PipelineProcess:
        """Start a ledger process without waiting for it."""
        return self._begin_part("ledger", "billing", "billing.process")

    def feeder(self) -> PipelineProcess:
        """Start a batch process without waiting for it."""
        return self._begin_part("feeder", "batches", "batches")

    def begin_webhooks(self) -> PipelineProcess:
        """Start a process that delivers webhooks without waiting for it."""
        return self._begin_part("webhooks", "webhooks", "webhooks")

    def webhooks(self) -> PipelineProcess:
        """Start a process that delivers webhooks and wait until it is ready."""
        process = self.begin_webhooks()
        process.wait_until_ready()
        return process

    def begin_api(self, port: int) -> PipelineProcess:
        """Start an API process without waiting for it."""
        api = {**self.settings.api.model_dump(exclude_unset=True), "port": port}
        return self._begin("api", self._with(api=api), "api", probe=port)

    def api(self) -> PipelineProcess:
        """Start an API process and wait until it is ready; its port is in its settings."""
        process = self.begin_api(free_port())
        process.wait_until_ready()
        return process

    def _with(self, **groups: Any) -> Settings:
        values = {**self.settings.model_dump(exclude_unset=True), **groups}
        return Settings(_env_file=None, **values)

    def stop(self) -> None:
        """Stop everything."""
        for process in reversed(self.processes):
            process.stop()


def connect(api: PipelineProcess, key: str, timeout: float = 30) -> httpx2.AsyncClient:
    """Return a client of an API process."""
    return httpx2.AsyncClient(
        base_url=f"http://127.0.0.1:{api.settings.api.port}",
        headers={"Authorization": f"Bearer {key}"},
        timeout=timeout,
    )


@contextlib.contextmanager
def pipeline(settings: Settings, directory: Path) -> Iterator[Pipeline]:
    """Run a pipeline for the length of a `with` block."""
    running = Pipeline(settings, directory)
    try:
        yield running
    finally:
        running.stop()


@contextlib.contextmanager
def whole_pipeline(settings: Settings, directory: Path) -> Iterator[Pipeline]:
    """Run one process of each kind that handles a job, from its client to its bill."""
    with pipeline(settings, directory) as running:
        running.control()
        running.ledger()
        running.worker()
        running.api()
        yield running
