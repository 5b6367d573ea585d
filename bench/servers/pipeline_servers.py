"""Starts the real processes of a pipeline for a measurement: Redis, control, worker, API."""

import asyncio
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from accounts.api_keys import NewKey
from accounts.caller import NO_LIMITS, Limits
from accounts.directory_factory import directory_of
from accounts.errors import AccountExists
from bench.servers.local_redis import LocalRedis, some_binary
from core.db.schema_version import upgrade
from core.runtime.child_process import ChildProcess, Program, answers, free_port, variables
from core.settings.tree import Settings

ACCOUNT = "bench"
START_SECONDS = 180.0


@contextmanager
def redis_server(directory: Path) -> Iterator[str]:
    """Run Redis as production does (append-only file, everysec); yields its URL."""
    server = LocalRedis(directory, binary=some_binary(), fsync="everysec")
    try:
        server.start()
        yield server.url
    finally:
        server.stop()


class Servers:
    """A running pipeline: where its API is, a key for it, and its processes by name."""

    def __init__(self, settings: Settings, directory: Path, key: str) -> None:
        self.settings = settings
        self.key = key
        self.port = settings.api.port
        self._directory = directory
        self.processes: dict[str, ChildProcess] = {}

    def start(self, name: str, module: str, ready: str | None = None, **env: str) -> None:
        """Start one process of the pipeline and wait until its probe answers."""
        process = self.processes[name] = ChildProcess(
            Program(
                name,
                [sys.executable, "-m", module],
                self._directory / f"{name}.log",
                {**environment(self.settings), **env},
                stop_seconds=20,
            )
        )
        process.begin()
        if ready is not None:
            process.wait_until(lambda: answers(ready), START_SECONDS)

    def stop(self) -> None:
        """Stop everything."""
        for process in reversed(self.processes.values()):
            process.signal(signal.SIGTERM)
        for process in self.processes.values():
            process.stop()


def environment(settings: Settings) -> dict[str, str]:
    """Return the variables that give a process these settings."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    return {**env, **variables(settings)}


def bench_settings(url: str, directory: Path, **groups: Any) -> Settings:
    """Return settings for one measurement, on ports and a prefix of its own."""
    values: dict[str, Any] = {
        "redis": {"url": url, "prefix": f"b{secrets.token_hex(3)}"},
        "api": {"port": free_port()},
        "auth": {"jwt_secret": secrets.token_hex(32)},
        "database": {"url": f"sqlite+aiosqlite:///{directory}/penstock.db"},
        "files": {"url": f"file://{directory}/files"},
        "worker": {"health_port": free_port()},
        "engine": {"slots": 128},
        **groups,
    }
    return Settings(_env_file=None, **values)


@asynccontextmanager
async def pipeline(*, worker: bool = True, **groups: Any) -> AsyncIterator[Servers]:
    """Run a whole pipeline for the length of a block."""
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as name:
        directory = Path(name)
        with redis_server(directory) as url:
            settings = bench_settings(url, directory, **groups)
            key = await make_key(settings)
            servers = Servers(settings, directory, key)
            try:
                await asyncio.to_thread(_start_all, servers, worker)
                yield servers
            finally:
                await asyncio.to_thread(servers.stop)


async def make_key(settings: Settings, *, account_limits: Limits = NO_LIMITS, **fields: Any) -> str:
    """Make tables, an account and a key."""
    await asyncio.to_thread(upgrade, settings.database)
    async with directory_of(settings, "bench") as directory:
        with suppress(AccountExists):
            await directory.accounts.create("bench", ACCOUNT, {})
        await directory.accounts.change("bench", ACCOUNT, account_limits.model_dump())
        return (await directory.keys.create("bench", NewKey(ACCOUNT, **fields))).secret


def _start_all(servers: Servers, worker: bool) -> None:
    settings = servers.settings
    servers.start("control", "workers.sweeper", PENSTOCK_CONTROL__HEALTH_PORT="0")
    if worker:
        port = settings.worker.health_port
        servers.start("worker", "workers", f"http://127.0.0.1:{port}/ready")
    servers.start("api", "api", f"http://127.0.0.1:{settings.api.port}/ready")
