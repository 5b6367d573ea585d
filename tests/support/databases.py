"""Real databases for tests: a SQLite file, or a database of its own on a PostgreSQL server."""

import contextlib
import secrets
import shutil
import signal
from pathlib import Path

import psutil
from sqlalchemy import make_url

from bench.servers.local_postgres import LocalPostgres, connect

#: In memory a database is copied in 0.05 s, on a disk in 0.4 s; each test on PostgreSQL has one.
MEMORY = Path("/dev/shm")
#: The space that all databases of a session may need there.
NEEDED_BYTES = 2_000_000_000


def in_memory() -> Path | None:
    """Return a folder in memory with room for databases, or None."""
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > NEEDED_BYTES
    return MEMORY if roomy else None


class PostgresServer(LocalPostgres):
    """An embedded PostgreSQL server that does not wait for the disk; it can be frozen."""

    def __init__(self, *options: str, port: int = 0) -> None:
        super().__init__("-c", "fsync=off", *options, port=port, parent=in_memory())

    def freeze(self) -> None:
        """Stop its processes (SIGSTOP): it answers nothing and closes no connection."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it continue."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: int) -> None:
        server = psutil.Process(self.pid)
        server.send_signal(number)
        for child in server.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended since it was listed
                child.send_signal(number)


def create_database(server_url: str, template: str | None = None) -> str:
    """Create a database with a new name; returns its URL."""
    name = f"test_{secrets.token_hex(5)}"
    like = f' TEMPLATE "{template}" STRATEGY file_copy' if template else ""
    with connect(server_url) as connection:
        connection.execute(f'CREATE DATABASE "{name}"{like}'.encode())
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


def drop_database(url: str) -> None:
    """Drop a database and end its connections."""
    parts = make_url(url)
    server = parts.set(database="postgres").render_as_string(hide_password=False)
    with connect(server) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{parts.database}" WITH (FORCE)'.encode())
