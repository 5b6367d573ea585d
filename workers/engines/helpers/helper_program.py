"""What all helper programs do: read requests, run each in a fork with limits, answer.

The program loads its libraries once and forks for each request. A fork that exceeds a limit or
crashes is gone, and the program is ready for the next request at once.

SIGUSR1 ends the fork of the request under way.

Invariants: one request runs at a time. When an answer is sent, nothing of its request runs any
more. A fork dies with its program, and the program with its worker.
"""

import ctypes
import gc
import json
import os
import resource
import select
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO, NoReturn

Work = Callable[[bytes], bytes]

#: Bytes of stack, for the main thread and for those of native code; an engine's have 8 MiB.
STACK_BYTES = 2 * 1024 * 1024
NICENESS = 5
PREFIX = struct.Struct(">I")
PIPE_BYTES = 65_536
PR_SET_PDEATHSIG = 1

#: The first byte of an answer: what follows is the result, the limit that was exceeded, or the
#: traceback of an error that is the program's own.
DONE, REFUSED, FAILED = b"+", b"-", b"!"


class Exceeded(Exception):
    """A request exceeded a limit; the argument names it."""


def read_frame(stream: BinaryIO) -> bytes | None:
    """Return the next message; None at the end of the stream."""
    prefix = stream.read(PREFIX.size)
    if len(prefix) < PREFIX.size:
        return None
    (length,) = PREFIX.unpack(prefix)
    message = stream.read(length)
    return message if len(message) == length else None


def frame(message: bytes) -> bytes:
    """Return a message with its length before it, as both sides of the pipe read it."""
    return PREFIX.pack(len(message)) + message


def serve(prepare: Callable[[bytes], Work]) -> None:
    """Answer requests until standard input ends.

    Args:
        prepare: Loads what the work needs, from the second message; returns the work. The first
            message states the limits: `seconds` of CPU time, `wall_seconds`, `memory_bytes` of one
            request, and `answer_bytes`.
    """
    _limit_stack()
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and ends this process
    fork = Fork()
    signal.signal(signal.SIGUSR1, fork.end)
    source = sys.stdin.buffer
    target = os.dup(1)
    os.dup2(2, 1)  # what native code prints must not reach the pipe
    hello, given = read_frame(source), read_frame(source)
    if hello is None or given is None:
        return
    limits = json.loads(hello)
    try:
        work = prepare(given)
    except Exception:  # noqa: BLE001  # the parent raises it
        _write(target, frame(FAILED + _trace()))
        return
    gc.collect()
    gc.freeze()  # a fork then copies fewer pages
    _write(target, frame(DONE))
    while (request := read_frame(source)) is not None:
        _write(target, frame(_run(work, request, limits, fork)))


class Fork:
    """The fork of the request under way; 0 while there is none."""

    pid = 0

    def end(self, *_: object) -> None:
        """Kill it; it is the handler of a signal."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)


def _run(work: Work, request: bytes, limits: dict[str, Any], fork: Fork) -> bytes:
    """Run one request in a fork; return the answer when the fork is gone."""
    reading, writing = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    fork.pid = os.fork()
    if fork.pid == 0:
        os.close(reading)
        _work(work, request, writing, limits)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    os.close(writing)
    answer = refused = b""
    try:
        answer = _collect(reading, limits)
    except Exceeded as exceeded:
        refused = REFUSED + exceeded.args[0]
        fork.end()
    finally:
        os.close(reading)
    child, fork.pid = fork.pid, 0
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if refused or code == 0:
        return refused or answer
    return REFUSED + (b"time" if code == -signal.SIGPROF else b"crash")


def _collect(reading: int, limits: dict[str, Any]) -> bytes:
    """Return what a fork has written when it ends.

    Raises:
        Exceeded: it took too long, or wrote too much.
    """
    deadline = time.monotonic() + limits["wall_seconds"]
    answer = bytearray()
    waiting = select.poll()
    waiting.register(reading, select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not waiting.poll(1000 * left):
            raise Exceeded(b"time")
        part = os.read(reading, PIPE_BYTES)
        if not part:
            return bytes(answer)
        answer += part
        if len(answer) > limits["answer_bytes"] + 1:
            raise Exceeded(b"size")


def _work(work: Work, request: bytes, writing: int, limits: dict[str, Any]) -> NoReturn:
    """Do the work in the fork, within the limits of memory and of CPU time."""
    code = 1
    try:
        if sys.platform == "linux":
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            _limit_memory(limits["memory_bytes"])
        signal.setitimer(signal.ITIMER_PROF, limits["seconds"])  # its signal kills
        _write(writing, _answer(work, request))
        code = 0
    finally:
        os._exit(code)


def _answer(work: Work, request: bytes) -> bytes:
    try:
        return DONE + work(request)
    except Exceeded as exceeded:
        reason: bytes = exceeded.args[0]
        return REFUSED + reason
    except MemoryError:
        return REFUSED + b"memory"
    except Exception:  # noqa: BLE001  # the parent raises it
        return FAILED + _trace()


def _trace() -> bytes:
    return traceback.format_exc(limit=5)[-2000:].encode(errors="replace")


def _write(target: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]


def _limit_memory(size: int) -> None:
    """Let the address space grow by `size` bytes from what it takes now; Linux only."""
    with open("/proc/self/statm", encoding="ascii") as statm:  # noqa: PTH123  # lean imports
        now = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + size, now + size))


def _limit_stack() -> None:
    """Replace this process by itself with a small stack; native threads take it at the start."""
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    if soft != STACK_BYTES and (hard == resource.RLIM_INFINITY or hard >= STACK_BYTES):
        resource.setrlimit(resource.RLIMIT_STACK, (STACK_BYTES, hard))
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606  # the same command
