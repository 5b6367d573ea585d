"""`.penstock`: the folder of one pipeline, with its lock, state, secrets, logs and data.

Invariant: the lock is inherited by every process of the pipeline, so it is free only when the
last one of them is gone; no two Redis servers can ever write the same data.
"""

import fcntl
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from cli.terminal.failures import Failure

HOME = Path(".penstock")


@dataclass(frozen=True, slots=True)
class PipelineState:
    """What is running here; `children` maps names to process ids."""

    pid: int
    url: str
    health_url: str
    redis: str
    model: str
    children: dict[str, int]


def write_aside(path: Path, text: str) -> None:
    """Write a private file so that a reader sees the old or the new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".tmp")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    aside.replace(path)


class StateDir:
    """One `.penstock` folder."""

    def __init__(self, path: Path = HOME) -> None:
        self.path = path
        self.logs = path / "logs"
        self.data = path / "redis"
        self.bills = path / "bills"
        self.key_file = path / "dev-key"
        self._state_file = path / "state.json"

    def lock(self) -> int:
        """Return the descriptor that holds the lock; children must inherit it.

        Raises:
            Failure: a pipeline runs here, or the last one has not quite ended.
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
        """Return what was last said to run here, if anything was."""
        try:
            return PipelineState(**json.loads(self._state_file.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write_state(self, state: PipelineState) -> None:
        """Say what runs here."""
        write_aside(self._state_file, json.dumps(asdict(state), indent=2) + "\n")

    def clear_state(self) -> None:
        """Say that nothing runs here any more."""
        self._state_file.unlink(missing_ok=True)

    def read_key(self) -> str | None:
        """Return the development key, if one was made."""
        try:
            return self.key_file.read_text().strip() or None
        except OSError:
            return None

    def jwt_secret(self) -> str:
        """Return what this pipeline signs tokens with; made once."""
        path = self.path / "jwt-secret"
        try:
            found = path.read_text().strip()
        except OSError:
            found = ""
        if not found:
            found = secrets.token_hex(32)
            write_aside(path, found + "\n")
        return found

    def log_file(self, name: str) -> Path:
        """Return where a process writes its log."""
        return self.logs / f"{name}.log"
