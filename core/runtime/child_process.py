"""Starts one program as a child process: the only starter, for `penstock up`, bench and tests.

Invariant: a child has a process group of its own, dies with the process that started it, and is
gone with everything it started when `stop` has returned; every wait has a bound.
"""

import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import BaseModel, SecretStr

PARENT_DEATH = Path(__file__).with_name("parent_death.py")
POLL_SECONDS = 0.02
KILLED_SECONDS = 10.0
TAIL_BYTES = 4096
PROBE_SECONDS = 2.0

#: Opens URLs of this machine without the proxy that the environment may name.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class NotReady(RuntimeError):
    """A child ended before it was ready, or was not ready in time; the text ends with its log."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run, and how to end it."""

    name: str
    command: Sequence[str]
    log: Path
    #: All of its environment variables; by default those of this process.
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    directory: Path | None = None
    #: Seconds it may take to become ready.
    start_seconds: float = 60.0
    #: Called when that time is over; returns the seconds to wait in all (more on a busy machine).
    patience: Callable[[float], float] = float
    #: Seconds between `stop_signal` and SIGKILL.
    stop_seconds: float = 15.0
    stop_signal: signal.Signals = signal.SIGTERM
    #: The signal it receives when this process dies; Linux only.
    death_signal: signal.Signals = signal.SIGKILL
    #: File descriptors that it inherits.
    pass_fds: Sequence[int] = ()
    #: The user it runs as; only root can set it.
    user: str | None = None


def tied_to_parent(program: Program) -> list[str]:
    """Return a command that runs `program` and ends it when this process dies."""
    how = str(int(program.death_signal))
    if program.user is not None:
        how += f",{pwd.getpwnam(program.user).pw_uid}"
    return [sys.executable, "-IS", str(PARENT_DEATH), str(os.getpid()), how, *program.command]


class ChildProcess:
    """One running program; it can be started again after it has ended.

    A subclass overrides `ready` to say when its program can be used.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._process: subprocess.Popen[bytes] | None = None
        #: The size of the log, in bytes, when the present run began.
        self._log_start = 0

    @property
    def name(self) -> str:
        """The program's name."""
        return self.program.name

    @property
    def pid(self) -> int:
        """Its process id; 0 before the first start."""
        return self._process.pid if self._process else 0

    @property
    def running(self) -> bool:
        """Whether it is alive."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Its exit code, the negative number of a signal; None while it runs."""
        return self._process.poll() if self._process else None

    def ready(self) -> bool:
        """Return whether it can be used."""
        return self.running

    def start(self) -> None:
        """Start it and wait until it is ready.

        Raises:
            NotReady: it ended first, or was not ready in time.
        """
        self.begin()
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until it is ready.

        Raises:
            NotReady: it ended first, or was not ready in time.
        """
        self.wait_until(self.ready, self.program.start_seconds)

    def begin(self) -> None:
        """Start it without waiting; its output is appended to its log.

        Call it in the main thread: Linux sends `death_signal` when the thread that started the
        child ends, not only when the process does.

        Raises:
            OSError: the log cannot be written, or no process can be started.
        """
        program = self.program
        program.log.parent.mkdir(parents=True, exist_ok=True)
        with program.log.open("ab") as log:
            self._log_start = log.seek(0, os.SEEK_END)
            self._process = subprocess.Popen(  # noqa: S603 - the command is the caller's
                tied_to_parent(program),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(program.environment),
                cwd=program.directory,
                process_group=0,
                pass_fds=tuple(program.pass_fds),
            )

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until `ready` returns True.

        Raises:
            NotReady: it ended first, or was not ready after `seconds`.
        """
        began = time.monotonic()
        while not ready():
            if not self.running:
                raise NotReady(f"{self.name} ended with {self.exit_code}:\n{self.tail()}")
            waited = time.monotonic() - began
            if waited > seconds and waited > self.program.patience(seconds):
                raise NotReady(f"{self.name} is not ready after {seconds:g} s:\n{self.tail()}")
            time.sleep(POLL_SECONDS)

    def signal(self, number: int) -> None:
        """Send a signal to it alone; does nothing when it is gone."""
        if self._process is not None:
            self._process.send_signal(number)

    def signal_group(self, number: int) -> None:
        """Send a signal to it and to everything that it started."""
        if self._process is not None:
            # The whole group is gone; macOS reports EPERM while its leader is a zombie.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def wait(self, seconds: float = 30.0) -> int:
        """Wait until it is gone and return its exit code.

        Raises:
            subprocess.TimeoutExpired: it was not gone after `seconds`.
        """
        return self._process.wait(seconds) if self._process else 0

    def stop(self, number: int | None = None, seconds: float | None = None) -> int:
        """Signal it to end, kill its group when the time is up, and return its exit code.

        Args:
            number: The signal; by default `stop_signal` of the program.
            seconds: How long to wait before the kill; by default `stop_seconds` of the program.

        Raises:
            subprocess.TimeoutExpired: it was not gone `KILLED_SECONDS` after SIGKILL.
        """
        if self.running:
            self.signal_group(signal.SIGCONT)  # a frozen process does not handle signals
            self.signal(self.program.stop_signal if number is None else number)
            with suppress(subprocess.TimeoutExpired):
                self.wait(self.program.stop_seconds if seconds is None else seconds)
        return self.kill()

    def kill(self) -> int:
        """Kill it and everything that it started; return its exit code."""
        self.signal_group(signal.SIGKILL)
        return self.wait(KILLED_SECONDS)

    def output(self) -> str:
        """Return its whole log: what it has printed over all starts."""
        log = self.program.log
        return log.read_text(errors="replace") if log.exists() else ""

    def tail(self) -> str:
        """Return the end of what its present run has printed."""
        return self.read_log(TAIL_BYTES)

    def read_log(self, size: int, *, last: bool = True) -> str:
        """Return the last or the first `size` bytes that its present run has printed."""
        with suppress(OSError), self.program.log.open("rb") as file:  # the log may be deleted
            end = file.seek(0, os.SEEK_END)
            file.seek(max(self._log_start, end - size) if last else self._log_start)
            return file.read(size).decode(errors="replace")
        return ""


def answers(url: str) -> bool:
    """Return whether a probe on this machine answers 200."""
    away = suppress(urllib.error.URLError, ConnectionError, TimeoutError)
    with away, _direct.open(url, timeout=PROBE_SECONDS) as answer:
        return bool(answer.status == 200)
    return False


def connects(port: int) -> bool:
    """Return whether this machine accepts connections on a port."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that no server listens on now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def variables(settings: BaseModel, prefix: str = "PENSTOCK_") -> dict[str, str]:
    """Return the environment variables that give a process the settings that were set here."""
    groups = settings.model_dump(exclude_unset=True)
    return {
        f"{prefix}{group}__{name}".upper(): _written(value)
        for group, values in groups.items()
        for name, value in values.items()
    }


def _written(value: object) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    return json.dumps(value, default=str) if isinstance(value, dict | list | tuple) else str(value)
