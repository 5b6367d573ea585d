"""`.penstock`: the state directory of one pipeline: its lock, state, secrets, logs and data.

Invariants: every process of the pipeline inherits the lock, so it is free only when the last of
them is gone; two Redis servers can never write the same data. Only the owner can read the folder
and what is in it; what an earlier version left open is closed at the next start.
"""

import fcntl
import json
import os
import secrets
import stat
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from cli.terminal.failures import Failure

STATE_DIR = Path(".penstock")


@dataclass(frozen=True, slots=True)
class PipelineState:
    """A running pipeline.

    Attributes:
        children: Process ids by name.
        embedded_redis: Whether its Redis is the embedded one, which has this folder's password.
    """

    pid: int
    url: str
    health_url: str
    redis: str
    model: str
    children: dict[str, int]
    embedded_redis: bool = False


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read; a reader sees the old or the new content."""
    make_private_folder(path.parent)
    temporary = path.with_suffix(".tmp")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)


def make_private_folder(path: Path) -> None:
    """Create a folder that only its owner can enter; leave one that exists as it is."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)


class StateDir:
    """The state directory of one pipeline."""

    def __init__(self, path: Path = STATE_DIR) -> None:
        self.path = path
        self.logs = path / "logs"
        self.data = path / "redis"
        self.bills = path / "bills"
        self.key_file = path / "dev-key"
        self._redis_password = path / "redis-password"
        self._state_file = path / "state.json"

    def lock(self) -> int:
        """Return the file descriptor that holds the lock; children must inherit it.

        Raises:
            Failure: a pipeline runs in this directory, or processes of the last one do.
        """
        make_private_folder(self.path)
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise self._taken() from None
        return descriptor

    def close_to_others(self) -> None:
        """Take all rights of other users away: from the folder, and from every file in it.

        What this process and its children create from now on is closed as well.
        """
        os.umask(0o077)
        for folder, _, names in os.walk(self.path):
            _close(Path(folder))
            for name in names:
                _close(Path(folder, name))

    def _taken(self) -> Failure:
        state = self.read_state()
        if state is None:
            return Failure("a pipeline is starting or stopping in this directory", "try again soon")
        return Failure(
            "a pipeline is already running in this directory",
            f"it answers at {state.url}; its process id is {state.pid}",
            f"to stop it: kill {state.pid}",
        )

    def read_state(self) -> PipelineState | None:
        """Return the pipeline that was last written here; None if there is none."""
        try:
            return PipelineState(**json.loads(self._state_file.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def redis_url(self, address: str) -> str:
        """Return the URL of the embedded Redis at `HOST:PORT`, with its password."""
        password = self.redis_password()
        return f"redis://:{password}@{address}/0" if password else f"redis://{address}/0"

    def running(self) -> PipelineState | None:
        """Return the pipeline that runs here now; None if none does."""
        state = self.read_state()
        if state is None:
            return None
        try:
            os.kill(state.pid, 0)
        except ProcessLookupError:
            return None
        except PermissionError:
            pass  # it runs as another user
        return state

    def write_state(self, state: PipelineState) -> None:
        """Write which pipeline runs here."""
        write_private(self._state_file, json.dumps(asdict(state), indent=2) + "\n")

    def clear_state(self) -> None:
        """Remove the state: no pipeline runs here."""
        self._state_file.unlink(missing_ok=True)

    def read_key(self) -> str | None:
        """Return the development key; None if there is none."""
        try:
            return self.key_file.read_text().strip() or None
        except OSError:
            return None

    def jwt_secret(self) -> str:
        """Return the secret that signs this pipeline's tokens; it is created once."""
        return _secret(self.path / "jwt-secret")

    def redis_config(self) -> Path:
        """Write the embedded Redis's configuration with its password, and return its path.

        In a file, because every user of the machine can read the command lines of processes.
        """
        path = self.path / "redis.conf"
        password = _secret(self._redis_password)
        write_private(path, f"requirepass {password}\n")
        return path

    def redis_password(self) -> str | None:
        """Return the embedded Redis's password; None if it was never started here."""
        try:
            return self._redis_password.read_text().strip() or None
        except OSError:
            return None

    def log_file(self, name: str) -> Path:
        """Return the path of a process's log."""
        return self.logs / f"{name}.log"


def _secret(path: Path) -> str:
    """Return a secret of letters and digits; it is created once."""
    try:
        found = path.read_text().strip()
    except OSError:
        found = ""
    if not found:
        found = secrets.token_hex(32)
        write_private(path, found + "\n")
    return found


def _close(path: Path) -> None:
    """Take the rights of other users away; a file may vanish, or be another user's."""
    with suppress(FileNotFoundError, PermissionError):
        mode = path.lstat().st_mode
        if stat.S_IMODE(mode) & 0o077 and not stat.S_ISLNK(mode):
            path.chmod(stat.S_IMODE(mode) & 0o700)
