"""Watches child processes: starts them, restarts those that die, and stops them all.

Invariant: every child is a `ChildProcess`, so it is in a process group of its own, dies with this
process, and is gone when `stop` has returned; every wait has a bound. A child that dies is started
again after a pause that grows; only one that cannot start the first time ends the whole run.
"""

import asyncio
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from cli.checks.memory import MemoryWatch
from cli.local.crash import Death, explain, headline, is_final, shown_tail
from cli.terminal.failures import Failure
from core.backoff import Backoff
from core.runtime.child_process import KILLED_SECONDS, ChildProcess, Program

#: Pauses before restarts: 1, 2, 4, ... 30 s; without jitter, because they are announced.
RESTARTS = Backoff(base_seconds=1.0, cap_seconds=30.0)
#: A child that was ready and lived this long starts with the first pause again.
STABLE_SECONDS = 60.0
MEMORY_SECONDS = 1.0
POLL_SECONDS = 0.1
#: A child that crashes this often in a row before it was ever ready is given up.
MAX_START_CRASHES = 3
#: Bytes at the end of a log that are read to explain a death.
TAIL_BYTES = 65_536
#: Bytes at the beginning of a log in which a process reports that it is ready.
HEAD_BYTES = 1_048_576
#: A child that is not ready has nothing to hand over, so it gets less time to stop.
STOP_UNREADY_SECONDS = 3.0


class Child:
    """One `ChildProcess` over all its restarts, for asyncio: no wait blocks the event loop."""

    def __init__(self, program: Program) -> None:
        self.program = program
        #: Whether it is ready now, and whether it ever was.
        self.ready = self.was_ready = False
        self.started_at = 0.0
        self._process = ChildProcess(program)

    @property
    def name(self) -> str:
        """The program's name."""
        return self.program.name

    @property
    def pid(self) -> int:
        """The process id of its present run; 0 before the first."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it is alive."""
        return self._process.running

    def start(self) -> None:
        """Start it; it takes milliseconds and has to run in the main thread.

        Raises:
            OSError: the log cannot be written, or no process can be started.
        """
        self.ready = False
        self._process.begin()
        self.started_at = time.monotonic()

    def log_lines(self) -> list[str]:
        """Return the last lines that its present run wrote to its log."""
        return self._process.read_log(TAIL_BYTES).splitlines()

    def logged(self, event: str) -> bool:
        """Return whether its present run wrote `event` near the beginning of its log."""
        return event in self._process.read_log(HEAD_BYTES, last=False)

    def note(self, lines: Sequence[str]) -> None:
        """Append lines about it to its own log, if that can be written."""
        with suppress(OSError), self.program.log.open("a") as file:
            file.writelines(f"penstock up: {line}\n" for line in lines)

    async def wait(self) -> int:
        """Wait until it is gone and return its exit code."""
        # Polled, because a thread for each child would use up the threads that probes need.
        while (code := self._process.exit_code) is None:  # noqa: ASYNC110 - another process ends
            await asyncio.sleep(POLL_SECONDS)
        return code

    async def stop(self) -> None:
        """Send SIGTERM to it, and kill its group when its time is up.

        Raises:
            subprocess.TimeoutExpired: it was not gone although it was killed.
        """
        seconds = self.program.stop_seconds
        if not self.ready:
            seconds = min(STOP_UNREADY_SECONDS, seconds)
        await asyncio.to_thread(self._process.stop, seconds=seconds)

    def kill(self) -> None:
        """Kill it and everything it started, without waiting."""
        self._process.signal_group(signal.SIGKILL)


#: Returns whether a child is ready.
Ready = Callable[[Child], Awaitable[bool]]


class Supervisor:
    """Starts, watches and stops all children of one pipeline.

    Args:
        lock: A file descriptor that every child inherits, so that the lock is held while one runs.
        say: Shows a headline and its details.
        restarted: Called when a child has a new process.
        cpu_amx: Whether the settings let vLLM use its AMX kernels; explains some crashes.
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

    def start(self, program: Program, ready: Ready, seconds: float) -> Child:
        """Start a child and watch it in the background.

        Args:
            program: What to run.
            ready: Returns whether the child is ready; asked until it is.
            seconds: How long a restarted child may take to be ready; the caller bounds the first
                start.

        Raises:
            OSError: it could not be started.
        """
        child = Child(replace(program, pass_fds=(self._lock,)))
        self.children[child.name] = child
        child.start()
        self._tasks.append(self._supervise(self._watch(child, ready, seconds)))
        return child

    def _supervise(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` in the background; an unexpected error in it ends the run."""
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
            await asyncio.sleep(MEMORY_SECONDS)

    async def _watch(self, child: Child, ready: Ready, seconds: float) -> None:
        deaths = 0
        last: tuple[int, bool] | None = None
        while True:
            death = await self._follow(child, ready, seconds, again=deaths > 0)
            child.kill()  # processes that it started may be left
            lived = time.monotonic() - child.started_at
            # A crash after minutes of loading, but before it was ready, is no stable run.
            deaths = 1 if child.ready and lived > STABLE_SECONDS else deaths + 1
            child.ready = False
            if is_final(death) or (not child.was_ready and deaths >= MAX_START_CRASHES):
                self._fail(child, death, deaths)
                return
            delay = RESTARTS.ceiling(deaths)
            same = last == (death.code, death.was_ready)
            details = ["as before"] if same else [*explain(death), f"its log: {child.program.log}"]
            last = death.code, death.was_ready
            title = headline(death)
            child.note([title, *explain(death)])
            self._say(f"{title}; starting it again in {delay:g} s", details)
            await self._start_again(child, delay)

    async def _start_again(self, child: Child, delay: float) -> None:
        while True:
            await asyncio.sleep(delay)
            try:
                child.start()
            except OSError as error:  # usually no memory for another process
                delay = RESTARTS.cap_seconds
                title = f"{child.name} could not be started ({error.strerror})"
                self._say(f"{title}; trying again in {delay:g} s", ())
            else:
                self._restarted()
                return

    async def _follow(self, child: Child, ready: Ready, seconds: float, *, again: bool) -> Death:
        """Follow one run of a child, from its start to its death."""
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
            child.name,
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
            self._say(f"{child.name} is ready again after {seconds:.1f} s", ())

    def _fail(self, child: Child, death: Death, deaths: int) -> None:
        title, details = headline(death), explain(death)
        if deaths > 1:
            title = f"{title}, {deaths} times in a row"
        child.note([title, *details])
        if not self.failure.done():
            log = child.program.log
            lines = [f"  {line}" for line in shown_tail(death.lines)]
            end = [f"the end of {log}:", *lines] if lines else [f"its log {log} is empty"]
            self.failure.set_result(Failure(title, *details, *end))

    async def stop(self, order: Sequence[str]) -> None:
        """Stop every child, the named ones first and in that order.

        Raises:
            Failure: one was not gone although it was killed; the others are.
        """
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        names = [*order, *(name for name in self.children if name not in order)]
        alive: list[str] = []
        for child in (self.children[name] for name in names if name in self.children):
            try:
                await child.stop()
            except subprocess.TimeoutExpired:
                alive.append(f"{child.name} has process id {child.pid}")
        if alive:
            raise Failure(f"not gone {KILLED_SECONDS:g} s after SIGKILL", *alive)

    def kill(self) -> None:
        """Kill every child now."""
        for child in self.children.values():
            child.kill()


async def _until(ready: Ready, child: Child) -> None:
    while not await ready(child):  # noqa: ASYNC110 - another process is asked
        await asyncio.sleep(POLL_SECONDS)
