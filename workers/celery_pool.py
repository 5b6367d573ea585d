"""A Celery pool whose slots are jobs on one asyncio loop, in a thread beside the consumer.

Celery's consumer stays in the main thread. It fetches as many tickets as there are slots and
passes each to the loop. When the job of a ticket has ended, the ticket is acknowledged in the main
thread, because kombu's connection belongs to that thread.
Invariant: a ticket is acknowledged only after its job ended or when there was no job for it.
"""

import asyncio
import json
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import structlog
import uvloop
from celery import signals
from celery.concurrency.base import BasePool
from celery.worker import state as celery_state

from core.settings.tree import Settings
from jobs.broker.tickets import VERSION
from workers.service import WorkerService

log = structlog.get_logger()

EXIT_FAILURE = 1
CLOSE_SECONDS = 1.0
#: How often a signal is looked for while the model loads.
LOAD_POLL_SECONDS = 0.25


class HeldTicket:
    """One unacknowledged Celery message; `done` may be called from any thread, once."""

    __slots__ = ("_acknowledge",)

    def __init__(self, acknowledge: Callable[[], None]) -> None:
        self._acknowledge = acknowledge

    def done(self) -> None:
        """Acknowledge the message, in the main thread."""
        self._acknowledge()


class AsyncioPool(BasePool):  # type: ignore[misc]
    """Runs `WorkerService` on its own loop; see the module's docstring."""

    signal_safe = False
    body_can_be_buffer = True

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        settings: Settings = self.app.conf.penstock_settings
        self._settings = settings
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, name="asyncio", daemon=True)
        self._service = WorkerService(settings, self._fatal)
        self._finished: deque[Callable[[], None]] = deque()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        self._drain: Any = None

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    def on_start(self) -> None:
        """Load and warm up the engine before the consumer fetches the first ticket."""
        signals.worker_shutting_down.connect(self._on_signal, weak=False)
        signals.task_unknown.connect(self._on_unknown_task, weak=False)
        signals.task_rejected.connect(self._on_unknown_task, weak=False)
        self._thread.start()
        starting = asyncio.run_coroutine_threadsafe(self._service.start(), self._loop)
        while True:
            try:
                starting.result(LOAD_POLL_SECONDS)
            except TimeoutError:
                celery_state.maybe_shutdown()  # raises if a signal came
            else:
                return

    def register_with_event_loop(self, hub: Any) -> None:
        """Wake the consumer's loop for finished tickets; called again after a reconnect."""
        hub.add_reader(self._wake_read, self._on_wake)

    def on_apply(
        self, _target: Any, args: Any, _kwargs: Any, callback: Any, accept_callback: Any, **_: Any
    ) -> None:
        """Take a ticket from the consumer; `args[3]` is the body of its message."""
        accept_callback(os.getpid(), 0.0)

        def acknowledge() -> None:
            self._finished.append(lambda: callback((0, None, 0.0)))
            self._wake()

        reason = why_unreadable(args[3])
        ticket = HeldTicket(acknowledge)
        if reason is None:
            self._loop.call_soon_threadsafe(self._service.offer, ticket)
        else:
            self._loop.call_soon_threadsafe(self._service.dead_letter, args[3], reason, ticket)

    def _on_signal(self, **_: Any) -> None:
        """Begin the drain in the handler of SIGTERM and SIGINT, before the consumer stops."""
        self.begin_drain()

    def _on_unknown_task(self, message: Any = None, exc: Any = None, **_: Any) -> None:
        """Keep a message that Celery rejects because its task is unknown."""
        reason = f"unknown task: {exc!r}"
        self._loop.call_soon_threadsafe(self._service.dead_letter, message.body, reason, None)

    def begin_drain(self) -> None:
        """Stop claiming; what SIGTERM begins. Later calls do nothing.

        Running jobs have `worker.drain_seconds` to finish; the others are handed over to another
        worker, which continues them.
        """
        if self._drain is None:
            self._drain = asyncio.run_coroutine_threadsafe(self._service.drain(), self._loop)
            self._wake()

    def on_stop(self) -> None:
        """Finish the drain and close the engine, in bounded time."""
        self.begin_drain()
        try:
            self._drain.result(self._settings.worker.grace_seconds)
        finally:
            closing = asyncio.run_coroutine_threadsafe(self._service.close(), self._loop)
            # All results are in Redis by now. A torch process group that is slow to shut down
            # (4 s on a CPU) must not delay the end of the pod.
            with suppress(TimeoutError):
                closing.result(CLOSE_SECONDS)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(2)

    def on_terminate(self) -> None:
        """Do nothing on a cold shutdown: the jobs continue elsewhere when their leases expire."""

    def terminate_job(self, _pid: int, _signal: int | None = None) -> None:
        """Do nothing when Celery quits: the jobs continue elsewhere when their leases expire."""

    def _fatal(self, error: BaseException) -> None:
        """Exit with a failure, so that the orchestrator starts a new worker."""
        log.error("worker_fatal", error=repr(error))
        celery_state.should_stop = EXIT_FAILURE
        self._wake()

    def _wake(self) -> None:
        with suppress(BlockingIOError):
            os.write(self._wake_write, b"\0")

    def _on_wake(self) -> None:
        with suppress(BlockingIOError):
            while os.read(self._wake_read, 4096):
                pass
        while self._finished:
            self._finished.popleft()()


def why_unreadable(body: Any) -> str | None:
    """Return why a message's body is no ticket of this version; None if it is one."""
    try:
        args = json.loads(bytes(body) if isinstance(body, memoryview) else body)[0]
    except (ValueError, TypeError, LookupError) as error:
        return f"not a ticket: {error!r}"
    return None if args == [VERSION] else f"unknown ticket version: {args!r}"
