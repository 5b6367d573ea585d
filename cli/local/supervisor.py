"""Runs child processes: starts, watches, restarts and stops them.

Invariant: every child is in a process group of its own, dies with this process, and is gone
when `stop` has returned; every wait has a bound. A child that dies is started again, after a
pause that grows; only one that cannot start the first time ends the whole run.
"""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cli.checks.memory import MemoryWatch
from cli.local.crash import Death, explain, headline, is_final, shown_tail
from cli.terminal.failures import Failure
from core.backoff import Backoff
from core.runtime.child_process import LEASH

#: Pauses before restarts: 1, 2, 4, ... 30 s; without jitter, because they are announced.
RESTARTS = Backoff(base_seconds=1.0, cap_seconds=30.0)
SETTLED_SECONDS = 60.0
READ_SECONDS = 1.0
POLL_SECONDS = 0.1
#: Crashes in a row before it was ever ready, after which a child is given up.
MOST_CRASHES_AT_START = 3
#: What is read of a log to explain a death.
TAIL_BYTES = 65_536
#: Where a process has said that it is ready.
HEAD_BYTES = 1_048_576


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What to run, and how long it may take to end when it is asked to."""

    name: str
    command: Sequence[str]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_seconds: float = 5.0
    death_signal: signal.Signals = signal.SIGKILL


class Child:
    """One child process, over all its restarts."""

    def __init__(self, spec: ChildSpec, lock: int) -> None:
        self.spec = spec
        #: Whether it is ready now, and whether it ever was.
        self.ready = self.was_ready = False
        self.started_at = 0.0
        self._log_begins = 0
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
        self.ready = False
        with self.spec.log.open("ab") as log:
            self._log_begins = log.seek(0, os.SEEK_END)
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

    def log_lines(self) -> list[str]:
        """Return the last of what its present incarnation wrote to its log."""
        return self._read(TAIL_BYTES, last=True).splitlines()

    def said(self, event: str) -> bool:
        """Whether its present incarnation wrote this near the beginning of its log."""
        return event in self._read(HEAD_BYTES, last=False)

    def _read(self, size: int, *, last: bool) -> str:
        try:
            with self.spec.log.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                file.seek(max(self._log_begins, end - size) if last else self._log_begins)
                return file.read(size).decode(errors="replace")
        except OSError:  # somebody took the log away
            return ""

    def note(self, lines: Sequence[str]) -> None:
        """Write something about it to its own log, if that can be written."""
        with suppress(OSError), self.spec.log.open("a") as file:
            file.writelines(f"penstock up: {line}\n" for line in lines)

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


#: Asks whether a child is ready.
Ready = Callable[[Child], Awaitable[bool]]


class Supervisor:
    """All children of one pipeline, in the order they were started.

    `say` shows a headline and its details; `restarted` is called when a child has a new process.
    """

    def __init__(
        self,
        lock: int,
        say: Callable[[str, Sequence[str]], None],
        restarted: Callable[[], None],
        *,
        cpu_amx: bool = False,
    ) -> None:
        self.children: dict[str, Child] = {}
        self.failure: asyncio.Future[Failure] = asyncio.get_running_loop().create_future()
        self._lock = lock
        self._say = say
        self._restarted = restarted
        self._cpu_amx = cpu_amx
        self._memory = MemoryWatch()
        self._tasks = [self._supervise(self._read_memory())]

    async def start(self, spec: ChildSpec, ready: Ready, seconds: float) -> Child:
        """Start a child and watch over it; `ready` sets `Child.ready` when it says yes.

        `seconds` is how long a later incarnation may take; who calls this bounds the first.
        """
        child = self.children[spec.name] = Child(spec, self._lock)
        await child.start()
        self._tasks.append(self._supervise(self._watch(child, ready, seconds)))
        return child

    def _supervise(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something in the background; an unexpected error of it ends the run."""
        task = asyncio.create_task(work)

        def ended(task: asyncio.Task[None]) -> None:
            error = None if task.cancelled() else task.exception()
            if error is not None and not self.failure.done():
                self.failure.set_exception(error)

        task.add_done_callback(ended)
        return task

    async def _read_memory(self) -> None:
        while True:
            self._memory.read()
            await asyncio.sleep(READ_SECONDS)

    async def _watch(self, child: Child, ready: Ready, seconds: float) -> None:
        deaths = 0
        last: tuple[int, bool] | None = None
        while True:
            death = await self._live(child, ready, seconds, again=deaths > 0)
            child.kill()  # what it may have left in its group
            lived = time.monotonic() - child.started_at
            # A model that takes minutes to load and then crashes has never settled.
            deaths = 1 if child.ready and lived > SETTLED_SECONDS else deaths + 1
            child.ready = False
            if is_final(death) or (not child.was_ready and deaths >= MOST_CRASHES_AT_START):
                self._fail(child, death, deaths)
                return
            delay = RESTARTS.ceiling(deaths)
            same = last == (death.code, death.was_ready)
            details = ["as before"] if same else [*explain(death), f"its log: {child.spec.log}"]
            last = death.code, death.was_ready
            title = headline(death)
            child.note([title, *explain(death)])
            self._say(f"{title}; starting it again in {delay:g} s", details)
            await self._start_again(child, delay)

    async def _start_again(self, child: Child, delay: float) -> None:
        while True:
            await asyncio.sleep(delay)
            try:
                await child.start()
            except OSError as error:  # no memory for one more process, as a rule
                delay = RESTARTS.cap_seconds
                title = f"{child.spec.name} could not be started ({error.strerror})"
                self._say(f"{title}; trying again in {delay:g} s", ())
            else:
                self._restarted()
                return

    async def _live(self, child: Child, ready: Ready, seconds: float, *, again: bool) -> Death:
        """Go through one life of a child, from its start to its death."""
        gone = asyncio.create_task(child.wait())
        becoming = asyncio.create_task(_until(ready, child))
        limit = seconds if child.was_ready else None
        own_kill = None
        try:
            await asyncio.wait({gone, becoming}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if gone.done() or becoming.done():
                if not gone.done():
                    becoming.result()
                    self._is_ready(child, again=again)
            else:
                own_kill = limit
                child.kill()
            code = await gone
        finally:
            for task in (gone, becoming):
                task.cancel()
            await asyncio.gather(gone, becoming, return_exceptions=True)
        return Death(
            child.spec.name,
            code,
            child.was_ready,
            child.log_lines(),
            self._memory.lowest(),
            self._memory.kills(),
            self._cpu_amx,
            own_kill,
        )

    def _is_ready(self, child: Child, *, again: bool) -> None:
        child.ready = child.was_ready = True
        if again:
            seconds = time.monotonic() - child.started_at
            self._say(f"{child.spec.name} is ready again after {seconds:.1f} s", ())

    def _fail(self, child: Child, death: Death, deaths: int) -> None:
        title, details = headline(death), explain(death)
        if deaths > 1:
            title = f"{title}, {deaths} times in a row"
        child.note([title, *details])
        if not self.failure.done():
            log = child.spec.log
            lines = [f"  {line}" for line in shown_tail(death.lines)]
            end = [f"the end of {log}:", *lines] if lines else [f"its log {log} is empty"]
            self.failure.set_result(Failure(title, *details, *end))

    async def stop(self, order: Sequence[str]) -> None:
        """Stop every child, the named ones first and in that order."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        names = [*order, *(name for name in self.children if name not in order)]
        for name in names:
            if name in self.children:
                await self.children[name].stop()

    def kill(self) -> None:
        """End everything now."""
        for child in self.children.values():
            child.kill()


async def _until(ready: Ready, child: Child) -> None:
    while not await ready(child):  # noqa: ASYNC110 - another process is asked
        await asyncio.sleep(POLL_SECONDS)
