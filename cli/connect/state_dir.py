"""`.penstock`: the state directory of one pipeline: its lock, state, secrets, logs and data.

Invariant: every process of the pipeline inherits the lock, so it is free only when the last of
them is gone; two Redis servers can never write the same data.
"""

import fcntl
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from cli.terminal.failures import Failure

STATE_DIR = Path(".penstock")


@dataclass(frozen=True, slots=True)
class PipelineState:
    """A running pipeline; `children` maps names to process ids."""

    pid: int
    url: str
    health_url: str
    redis: str
    model: str
    children: dict[str, int]


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read; a reader sees the old or the new content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    temporary.replace(path)


class StateDir:
    """The state directory of one pipeline."""

    def __init__(self, path: Path = STATE_DIR) -> None:
        self.path = path
        self.logs = path / "logs"
        self.data = path / "redis"
        self.bills = path / "bills"
        self.key_file = path / "dev-key"
        self._state_file = path / "state.json"

    def lock(self) -> int:
        """Return the file descriptor that holds the lock; children must inherit it.

        Raises:
            Failure: a pipeline runs in this directory, or processes of the last one do.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise self._taken() from None
        return descriptor

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
        path = self.path / "jwt-secret"
        try:
            found = path.read_text().strip()
        except OSError:
            found = ""
        if not found:
            found = secrets.token_hex(32)
            write_private(path, found + "\n")
        return found

    def log_file(self, name: str) -> Path:
        """Return the path of a process's log."""
        return self.logs / f"{name}.log"
