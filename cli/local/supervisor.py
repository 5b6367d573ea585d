"""Runs child processes: starts, watches, restarts and stops them.

Invariant: every child is in a process group of its own, dies with this process, and is gone
when `stop` has returned; every wait has a bound.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cli.failures import Failure
from core.backoff import Backoff

LEASH = Path(__file__).with_name("parent_death.py")
#: Pauses before restarts: 1, 2, 4, ... 30 s; without jitter, because they are announced.
RESTARTS = Backoff(base_seconds=1.0, cap_seconds=30.0)
SETTLED_SECONDS = 60.0
TAIL_LINES = 12
TAIL_BYTES = 8192


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to run. One with `restarts` is started again if it dies after it was ready."""

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_seconds: float = 5.0
    restarts: bool = False
    death_signal: signal.Signals = signal.SIGKILL


def tail(path: Path, lines: int = TAIL_LINES) -> list[str]:
    """Return the last lines of a log that is not empty."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return []
    return [line for line in text.splitlines() if line.strip()][-lines:]


class Child:
    """One child process, over all its restarts."""

    def __init__(self, spec: ChildSpec, lock: int) -> None:
        self.spec = spec
        self.ready = False
        self.started_at = 0.0
        self._lock = lock
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The process id of its present incarnation."""
        return self._process.pid if self._process else 0

    @property
    def running(self) -> bool:
        """Whether it is alive."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start it; its output goes to the end of its log."""
        self.spec.log.parent.mkdir(parents=True, exist_ok=True)
        leash = [sys.executable, "-IS", str(LEASH), str(os.getpid())]
        with self.spec.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *leash,
                str(int(self.spec.death_signal)),
                *self.spec.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.spec.environment},
                process_group=0,
                pass_fds=(self._lock,),
            )
        self.started_at = time.monotonic()

    async def wait(self) -> int:
        """Return the exit code when it is gone."""
        return await self._process.wait() if self._process else 0

    async def stop(self) -> None:
        """Ask it to end, and make it when its time is up."""
        # What is not ready has nothing to hand over.
        seconds = self.spec.stop_seconds if self.ready else min(3.0, self.spec.stop_seconds)
        if self.running:
            self._signal(signal.SIGTERM)
            with suppress(TimeoutError):
                await asyncio.wait_for(self.wait(), seconds)
        self.kill()
        await self.wait()

    def kill(self) -> None:
        """End it and everything it started."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)


class Supervisor:
    """All children of one pipeline, in the order they were started."""

    def __init__(
        self, lock: int, say: Callable[[str], None], restarted: Callable[[], None]
    ) -> None:
        self.children: dict[str, Child] = {}
        self.failure: asyncio.Future[Failure] = asyncio.get_running_loop().create_future()
        self._lock = lock
        self._say = say
        self._restarted = restarted
        self._watches: list[asyncio.Task[None]] = []

    async def start(self, spec: ChildSpec) -> Child:
        """Start a child and watch over it."""
        child = self.children[spec.name] = Child(spec, self._lock)
        await child.start()
        self._watches.append(asyncio.create_task(self._watch(child)))
        return child

    async def _watch(self, child: Child) -> None:
        deaths = 0
        while True:
            code = await child.wait()
            if not (child.spec.restarts and child.ready):
                self._fail(child, code)
                return
            child.kill()  # what it may have left in its group
            lived = time.monotonic() - child.started_at
            deaths = 1 if lived > SETTLED_SECONDS else deaths + 1
            delay = RESTARTS.ceiling(deaths)
            self._say(f"{child.spec.name} died ({_reason(code)}); starting it again in {delay:g} s")
            await asyncio.sleep(delay)
            await child.start()
            self._restarted()

    def _fail(self, child: Child, code: int) -> None:
        if not self.failure.done():
            log = child.spec.log
            lines = [f"  {line}" for line in tail(log)]
            self.failure.set_result(
                Failure(
                    f"{child.spec.name} died ({_reason(code)})",
                    *([f"the end of {log}:", *lines] if lines else [f"its log {log} is empty"]),
                )
            )

    async def stop(self, order: Sequence[str]) -> None:
        """Stop every child, the named ones first and in that order."""
        for watch in self._watches:
            watch.cancel()
        await asyncio.gather(*self._watches, return_exceptions=True)
        names = [*order, *(name for name in self.children if name not in order)]
        for name in names:
            if name in self.children:
                await self.children[name].stop()

    def kill(self) -> None:
        """End everything now."""
        for child in self.children.values():
            child.kill()


def _reason(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"
