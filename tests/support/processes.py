"""Real processes of the pipeline, started as a user or an orchestrator starts them."""

import contextlib
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
from pydantic import SecretStr

from core.settings.tree import Settings
from tests.support.environment import inherited
from tests.support.redis_server import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 120.0


def environment(settings: Settings) -> dict[str, str]:
    """Return the variables that give a process these settings."""
    env = inherited()
    for group, values in settings.model_dump(exclude_unset=True).items():
        for field, value in values.items():
            _put(env, f"PENSTOCK_{group}__{field}".upper(), value)
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # compiling vLLM anew costs 10 s a process
    env.update(OMP_NUM_THREADS="1", VLLM_CPU_KVCACHE_SPACE="1")
    return env


def _put(env: dict[str, str], name: str, value: Any) -> None:
    if isinstance(value, dict):
        for field, inner in value.items():
            _put(env, f"{name}__{field}".upper(), inner)
    else:
        env[name] = value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def answers(url: str) -> bool:
    """Say whether a probe answers 200."""
    away = contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError)
    with away, urllib.request.urlopen(url, timeout=1) as answer:
        return bool(answer.status == 200)
    return False


class PipelineProcess:
    """One process; its output goes to a file that a failing test shows."""

    def __init__(self, name: str, settings: Settings, log: Path, *command: str) -> None:
        self.name = name
        self.settings = settings
        self._log_path = log
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *command],
                env=environment(settings),
                cwd=log.parent,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def log(self) -> str:
        """Return what it printed so far."""
        return self._log_path.read_text(errors="replace")

    def signal(self, number: int) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self, seconds: float = 30.0) -> int:
        """Return its exit code."""
        return self.process.wait(seconds)

    def stop(self) -> None:
        """End it whatever its state."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(5)

    def wait_until_ok(self, url: str) -> None:
        """Wait until a probe answers 200; fail with the log if the process ends first."""
        give_up = time.monotonic() + START_SECONDS
        while True:
            if self.process.poll() is not None:
                raise AssertionError(f"{self.name} ended early:\n{self.log()[-4000:]}")
            if answers(url):
                return
            if time.monotonic() > give_up:
                raise AssertionError(f"{self.name} is not ready:\n{self.log()[-4000:]}")
            time.sleep(0.05)


class Pipeline:
    """Starts processes that share one store, and stops them all at the end."""

    def __init__(self, settings: Settings, directory: Path) -> None:
        self.settings = settings
        self._directory = directory
        self.processes: list[PipelineProcess] = []

    def first(self, name: str) -> PipelineProcess:
        """Return the first process of this name."""
        return next(process for process in self.processes if process.name == name)

    def _start(self, name: str, settings: Settings, *command: str) -> PipelineProcess:
        log = self._directory / f"{name}-{len(self.processes)}.log"
        process = PipelineProcess(name, settings, log, *command)
        self.processes.append(process)
        return process

    def begin_worker(self, health_port: int | None = None, **engine: Any) -> PipelineProcess:
        """Start a worker without waiting for its model; `engine` is what differs in its engine."""
        port = health_port or free_port()
        worker = {**self.settings.worker.model_dump(exclude_unset=True), "health_port": port}
        own = {**self.settings.engine.model_dump(exclude_unset=True), **engine}
        return self._start("worker", self._with(worker=worker, engine=own), "workers")

    def worker(self) -> PipelineProcess:
        """Start a worker and wait until its model is warm."""
        process = self.begin_worker()
        self.ready(process)
        return process

    def ready(self, worker: PipelineProcess) -> None:
        """Wait until a worker's model is warm."""
        worker.wait_until_ok(f"http://127.0.0.1:{worker.settings.worker.health_port}/ready")

    def control(self) -> PipelineProcess:
        """Start a control process (the sweeper)."""
        own = self.settings.control.model_dump(exclude_unset=True)
        own["health_port"] = free_port()
        return self._start("control", self._with(control=own), "workers.sweeper")

    def ledger(self) -> PipelineProcess:
        """Start a ledger process without waiting for it."""
        billing = self.settings.billing.model_dump(exclude_unset=True)
        billing["health_port"] = free_port()
        return self._start("ledger", self._with(billing=billing), "billing")

    def feeder(self) -> PipelineProcess:
        """Start a process that feeds batches without waiting for it."""
        own = self.settings.batches.model_dump(exclude_unset=True)
        own["health_port"] = free_port()
        return self._start("feeder", self._with(batches=own), "batches")

    def begin_webhooks(self) -> PipelineProcess:
        """Start a process that delivers webhooks without waiting for it."""
        own = self.settings.webhooks.model_dump(exclude_unset=True)
        own["health_port"] = free_port()
        return self._start("webhooks", self._with(webhooks=own), "webhooks")

    def webhooks(self) -> PipelineProcess:
        """Start a process that delivers webhooks and wait until it is ready."""
        process = self.begin_webhooks()
        port = process.settings.webhooks.health_port
        process.wait_until_ok(f"http://127.0.0.1:{port}/ready")
        return process

    def begin_api(self, port: int) -> PipelineProcess:
        """Start an API process without waiting for it."""
        api = {**self.settings.api.model_dump(exclude_unset=True), "port": port}
        return self._start("api", self._with(api=api), "api")

    def api(self) -> PipelineProcess:
        """Start an API process and wait until it is ready; its port is in its settings."""
        process = self.begin_api(free_port())
        process.wait_until_ok(f"http://127.0.0.1:{process.settings.api.port}/ready")
        return process

    def _with(self, **groups: Any) -> Settings:
        values = {**self.settings.model_dump(exclude_unset=True), **groups}
        return Settings(_env_file=None, **values)  # type: ignore[call-arg]

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
    """Run one process of each kind that a job meets, from its client to its bill."""
    with pipeline(settings, directory) as running:
        running.control()
        running.ledger()
        running.worker()
        running.api()
        yield running
