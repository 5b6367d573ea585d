"""One helper process, seen from a worker's thread.

All waits are on pipes and have a bound, so it does not matter which event loop a worker has.

Invariants: `ask` returns within its limits or raises. A process that did not answer in time is
killed with everything that it started.
"""

import json
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from core.errors import EngineError
from core.runtime.child_process import Program, tied_to_parent
from workers.engines.helpers.helper_program import DONE, PREFIX, REFUSED, frame

log = structlog.get_logger()

START_SECONDS = 120.0
KILLED_SECONDS = 10.0
DROP_SECONDS = 0.05
#: Bytes of an answer beyond the limit of its content.
ANSWER_ROOM = 4096
PIPE_BYTES = 65_536
#: A busy machine may take this many times the limit of CPU time.
WALL_FACTOR = 6.0
#: The program notices the end of the time first; this is for one that is stuck itself.
WALL_ROOM = 5.0


class HelperRefused(Exception):
    """A request exceeded a limit: `time`, `memory` or `size`; or its fork died: `crash`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class HelperDropped(Exception):
    """The request was given up with `drop`."""


@dataclass(frozen=True, slots=True)
class HelperLimits:
    """What one request may use.

    Attributes:
        seconds: CPU time.
        memory_bytes: Memory beyond what the program needs itself.
        answer_bytes: Size of the answer.
    """

    seconds: float
    memory_bytes: int
    answer_bytes: int

    @property
    def wall_seconds(self) -> float:
        """Seconds of wall time."""
        return self.seconds * WALL_FACTOR


class HelperProcess:
    """Starts a program when it is needed, and again if it was killed.

    One thread calls `start`, `ask` and `kill`; any thread may call the others.
    """

    def __init__(
        self, name: str, command: Sequence[str], limits: HelperLimits, hello: Callable[[], bytes]
    ) -> None:
        """Create a helper whose process is not started.

        Args:
            name: The helper's name, for messages.
            command: The program; it calls `helper_program.serve`.
            limits: What one request may use.
            hello: Returns what the program needs to prepare itself.
        """
        self._name = name
        self._command = command
        self._limits = limits
        self._hello = hello
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._dropped = False

    @property
    def pid(self) -> int | None:
        """The process's id; None while there is no process."""
        process = self._process
        return None if process is None else process.pid

    def start(self) -> None:
        """Start the process and wait until it is prepared, unless it runs already.

        Raises:
            EngineError: it did not start.
        """
        with self._lock:
            process = self._process
            if process is not None and process.poll() is None:
                return
        self.kill()  # frees the pipes of a process that has ended
        self._spawn()
        limits = {
            "seconds": self._limits.seconds,
            "wall_seconds": self._limits.wall_seconds,
            "memory_bytes": self._limits.memory_bytes,
            "answer_bytes": self._limits.answer_bytes,
        }
        hello = frame(json.dumps(limits).encode()) + frame(self._hello())
        try:
            answer = self._exchange(hello, time.monotonic() + START_SECONDS)
        except (OSError, EOFError) as error:  # a TimeoutError is an OSError
            self._check()
            raise EngineError(f"the {self._name} did not start: exit {self.kill()}") from error
        if not answer.startswith(DONE):
            self.kill()
            text = answer[1:].decode(errors="replace")
            raise EngineError(f"the {self._name} did not start: {text}")

    def ask(self, request: bytes) -> bytes:
        """Let the program run one request; start it first if need be.

        A program that was killed from outside gets the request once more.

        Args:
            request: What the program's work takes.

        Returns:
            What the work returned.

        Raises:
            HelperRefused: The request exceeded a limit or crashed.
            HelperDropped: `drop` was called.
            EngineError: The program did not start, was killed twice, or failed by itself.
        """
        try:
            return self._ask(request)
        except (BrokenPipeError, EOFError):
            self._check()
            log.warning("helper_killed", helper=self._name, exit_code=self.kill())
        try:
            return self._ask(request)
        except (BrokenPipeError, EOFError) as error:
            self._check()
            raise EngineError(f"the {self._name} was killed: exit {self.kill()}") from error

    def accept(self) -> None:
        """Forget an earlier `drop`: the next request is another one."""
        self._dropped = False

    def drop(self) -> None:
        """Give up the request under way; `ask` ends it within DROP_SECONDS and raises."""
        self._dropped = True

    def end(self) -> None:
        """Kill the process without waiting for its end; the request under way is given up."""
        self._dropped = True
        with self._lock:
            if self._process is not None:
                _kill_group(self._process)

    def kill(self) -> int:
        """Kill the process and all that it started; return its exit code when it is gone.

        Raises:
            subprocess.TimeoutExpired: it was not gone after KILLED_SECONDS.
        """
        with self._lock:
            process, self._process = self._process, None
            if process is None:
                return 0
            _kill_group(process)
        code = process.wait(KILLED_SECONDS)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        return code

    def _check(self) -> None:
        if self._dropped:
            self.kill()
            raise HelperDropped

    def _ask(self, request: bytes) -> bytes:
        self._check()
        self.start()
        self._check()
        try:
            wait = self._limits.wall_seconds + WALL_ROOM
            answer = self._exchange(frame(request), time.monotonic() + wait)
        except TimeoutError:
            self.kill()
            raise HelperRefused("time") from None
        if self._dropped:
            raise HelperDropped
        kind, content = answer[:1], answer[1:]
        if kind == DONE:
            return content
        text = content.decode(errors="replace")
        if kind == REFUSED:
            raise HelperRefused(text)
        log.error("helper_failed", helper=self._name, error=text)
        raise EngineError(f"the {self._name} failed")

    def _spawn(self) -> None:
        program = Program(self._name, self._command, Path(os.devnull))
        process = subprocess.Popen(  # noqa: S603  # our own program
            tied_to_parent(program),
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            process_group=0,
            env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
        )
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
        with self._lock:
            self._process = process

    def _exchange(self, request: bytes, deadline: float) -> bytes:
        """Send a request and return the answer.

        Raises:
            EOFError: the process ended.
            BrokenPipeError: the process ended before it read the request.
            TimeoutError: the deadline has passed.
        """
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise EOFError("the process was killed")
        view = memoryview(request)
        while view:
            self._wait_for(process.stdin.fileno(), select.POLLOUT, deadline)
            view = view[os.write(process.stdin.fileno(), view[:PIPE_BYTES]) :]
        output = process.stdout.fileno()
        (length,) = PREFIX.unpack(self._read(output, PREFIX.size, deadline))
        if length > self._limits.answer_bytes + ANSWER_ROOM:
            self.kill()
            raise HelperRefused("size")
        return self._read(output, length, deadline)

    def _read(self, fd: int, size: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._wait_for(fd, select.POLLIN, deadline)
            part = os.read(fd, min(PIPE_BYTES, size - len(data)))
            if not part:
                raise EOFError("the process ended")
            data += part
        return bytes(data)

    def _wait_for(self, fd: int, event: int, deadline: float) -> None:
        """Wait until a pipe is ready; meanwhile, end a request that was dropped."""
        waiting = select.poll()
        waiting.register(fd, event)
        while (left := deadline - time.monotonic()) > 0:
            if waiting.poll(1000 * min(left, DROP_SECONDS)):
                return
            if self._dropped and self._process is not None:
                self._process.send_signal(signal.SIGUSR1)  # the fork ends, the program answers
        raise TimeoutError("the process does not answer")


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill a process that was not reaped yet, and all that it started."""
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)
