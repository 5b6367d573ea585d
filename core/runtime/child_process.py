"""Starts one program as a child: for `penstock up`, measurements, tests and chaos alike.

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

LEASH = Path(__file__).with_name("parent_death.py")
POLL_SECONDS = 0.02
KILLED_SECONDS = 10.0
TAIL_BYTES = 4096

#: Asks this machine without a proxy of the environment.
_direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class NotReady(RuntimeError):
    """A child ended before it was ready, or was not ready in time; the text ends with its log."""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run, and how it ends."""

    name: str
    command: Sequence[str]
    log: Path
    #: All of its variables; by default those of this process.
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    directory: Path | None = None
    #: Seconds that it may take to be ready.
    start_seconds: float = 60.0
    #: Returns the seconds to wait in all, once that many are over: more on a busy machine.
    patience: Callable[[float], float] = float
    #: Seconds between `stop_signal` and SIGKILL.
    stop_seconds: float = 15.0
    stop_signal: signal.Signals = signal.SIGTERM
    #: What it gets when this process dies; on Linux only.
    death_signal: signal.Signals = signal.SIGKILL
    #: Files that stay open in it.
    pass_fds: Sequence[int] = ()
    #: The user that it runs as; root alone may say so.
    user: str | None = None


def leashed(program: Program) -> list[str]:
    """Return the command that becomes `program`'s, bound to the life of this process."""
    how = str(int(program.death_signal))
    if program.user is not None:
        how += f",{pwd.getpwnam(program.user).pw_uid}"
    return [sys.executable, "-IS", str(LEASH), str(os.getpid()), how, *program.command]


class ChildProcess:
    """One program that runs; it may be started again after it has ended.

    Classes of programs say in `ready` how to see that one can be used.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._process: subprocess.Popen[bytes] | None = None

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
        """Say whether it can be used."""
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
        """Start it without waiting; its output goes to the end of its log."""
        program = self.program
        program.log.parent.mkdir(parents=True, exist_ok=True)
        with program.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the command is the caller's
                leashed(program),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=dict(program.environment),
                cwd=program.directory,
                process_group=0,
                pass_fds=tuple(program.pass_fds),
            )

    def wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        """Wait until `ready` says so.

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
        """Send a signal to it, and to nothing that it started; nothing happens when it is gone."""
        if self._process is not None:
            self._process.send_signal(number)

    def signal_group(self, number: int) -> None:
        """Send a signal to it and to everything that it started."""
        if self._process is not None:
            with suppress(ProcessLookupError):  # the whole group is gone
                os.killpg(self._process.pid, number)

    def wait(self, seconds: float = 30.0) -> int:
        """Return its exit code when it is gone.

        Raises:
            subprocess.TimeoutExpired: it was not gone after `seconds`.
        """
        return self._process.wait(seconds) if self._process else 0

    def stop(self, number: int | None = None) -> int:
        """Ask it to end, make it when its time is up, and return its exit code.

        `number` is a signal other than that of the program.
        """
        if self.running:
            self.signal_group(signal.SIGCONT)  # what is frozen does not end
            self.signal(self.program.stop_signal if number is None else number)
            with suppress(subprocess.TimeoutExpired):
                self.wait(self.program.stop_seconds)
        return self.kill()

    def kill(self) -> int:
        """End it and everything that it started; return its exit code."""
        self.signal_group(signal.SIGKILL)
        return self.wait(KILLED_SECONDS)

    def output(self) -> str:
        """Return what it has printed so far, over all starts."""
        log = self.program.log
        return log.read_text(errors="replace") if log.exists() else ""

    def tail(self) -> str:
        """Return the end of what it has printed."""
        return self.output()[-TAIL_BYTES:]


def answers(url: str) -> bool:
    """Say whether a probe on this machine answers 200."""
    away = suppress(urllib.error.URLError, ConnectionError, TimeoutError)
    with away, _direct.open(url, timeout=1) as answer:
        return bool(answer.status == 200)
    return False


def connects(port: int) -> bool:
    """Say whether this machine takes connections on a port."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that nothing listens on now."""
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
