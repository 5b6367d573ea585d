"""The step writer: the events of one engine step go to Redis in one script call.

One append is under way at a time; events that arrive meanwhile go with the next one, so a slow
Redis makes batches larger instead of queues longer. A job's first tokens and its end are written
immediately. In between, steps are coalesced once a worker would write more than
`events_per_second`, because Redis, the API and the client pay per event. A stream then waits at
most twice `flush_seconds`, and usually less than once. A single stream never waits. Jobs without a
watching client are written every `unwatched_flush_seconds` or `unwatched_flush_tokens`.

Invariant: an append whose answer was lost is sent again unchanged (the script recognises the
repeat), so no event is written twice or skipped.
"""

import asyncio
from collections.abc import Callable

import structlog

from core import metrics
from core.errors import StoreUnavailable
from core.settings.api import StreamSettings
from jobs.store.job_store import JobStore
from jobs.store.transitions import Appended, LogAppend
from workers.attempt import Attempt

log = structlog.get_logger()

RETRY_SECONDS = 0.2


class CoalescingBuffer:
    """Collects attempts with pending events and releases them together.

    After a release, the buffer pauses. The first step after the pause releases what was collected;
    without such a step, a timer does so after another pause.
    """

    def __init__(
        self, pause: Callable[[int], float], release: Callable[[dict[str, Attempt]], None]
    ) -> None:
        """Create an empty buffer.

        Args:
            pause: Returns the seconds to pause after a release of so many attempts.
            release: Called with the collected attempts by job id.
        """
        self._pause = pause
        self._release = release
        self._pause_seconds = 0.0
        self._attempts: dict[str, Attempt] = {}
        self._paused_until = 0.0
        self._soon: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None

    def add(self, attempt: Attempt) -> None:
        """Collect an attempt; one that is collected already stays."""
        self._attempts[attempt.id] = attempt
        loop = asyncio.get_running_loop()
        if loop.time() >= self._paused_until:
            # After the rest of this step, which comes in the same turn of the loop.
            self._soon = self._soon or loop.call_soon(self._flush)
        elif self._timer is None:
            self._timer = loop.call_at(self._paused_until + self._pause_seconds, self._flush)

    def drop(self, attempt: Attempt) -> None:
        """Remove an attempt; one that is not collected is ignored."""
        self._attempts.pop(attempt.id, None)

    def _flush(self) -> None:
        for handle in (self._soon, self._timer):
            if handle is not None:
                handle.cancel()
        self._soon = self._timer = None
        attempts, self._attempts = self._attempts, {}
        self._pause_seconds = self._pause(len(attempts))
        self._paused_until = asyncio.get_running_loop().time() + self._pause_seconds
        self._release(attempts)


class StepWriter:
    """Writes the pending events of attempts. Use it from the event loop's thread only."""

    def __init__(
        self,
        store: JobStore,
        settings: StreamSettings,
        queue: str,
        on_append: Callable[[Attempt, Appended], None],
    ) -> None:
        """Create a writer with nothing to write.

        Args:
            store: The job store.
            settings: How long, and for how many tokens, events are coalesced.
            queue: The queue's name, for the metrics.
            worker: The worker's id.
            on_append: Called for each attempt with the append script's answer.
        """
        self._store = store
        self._settings = settings
        self._queue = queue
        self._on_append = on_append
        self._due: dict[str, Attempt] = {}
        self._watched = CoalescingBuffer(self._watched_pause, self._release)
        self._unwatched = CoalescingBuffer(
            lambda _: settings.unwatched_flush_seconds, self._release
        )
        self._wake = asyncio.Event()

    def changed(self, attempt: Attempt) -> None:
        """Schedule an append for new pending events: now for a first or last one, else soon.

        Args:
            attempt: An attempt with pending events or an ending.
        """
        if attempt.stopping or not attempt.begun:
            self.flush(attempt)
        elif attempt.id in self._due:
            return
        elif attempt.watched:
            self._watched.add(attempt)
        elif attempt.pending_tokens >= self._settings.unwatched_flush_tokens:
            self.flush(attempt)
        else:
            self._unwatched.add(attempt)

    def flush(self, attempt: Attempt) -> None:
        """Write an attempt's pending events with the next append, without coalescing.

        Args:
            attempt: The attempt to write.
        """
        self._watched.drop(attempt)
        self._unwatched.drop(attempt)
        self._due[attempt.id] = attempt
        self._wake.set()

    def _watched_pause(self, attempts: int) -> float:
        settings = self._settings
        return min(settings.flush_seconds, (attempts - 1) / settings.events_per_second)

    def _release(self, attempts: dict[str, Attempt]) -> None:
        self._due.update(attempts)
        self._wake.set()

    def forget(self, attempt: Attempt) -> None:
        """Write nothing more for an attempt.

        Args:
            attempt: The attempt; an append under way is not stopped.
        """
        self._due.pop(attempt.id, None)
        self._watched.drop(attempt)
        self._unwatched.drop(attempt)

    async def run(self) -> None:
        """Write until cancelled; retry while Redis does not answer."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            due, self._due = self._due, {}
            attempts = [attempt for attempt in due.values() if not attempt.over]
            if attempts:
                await self._write(attempts)

    async def _write(self, attempts: list[Attempt]) -> None:
        appends = [attempt.next_append() for attempt in attempts]
        events = sum(len(append.events) for append in appends)
        metrics.step_events.labels(self._queue).observe(events)
        answers = await self._append(appends)
        for attempt, append, answer in zip(attempts, appends, answers, strict=True):
            if answer != "lost":
                attempt.wrote(len(append.events))
            if not attempt.over:
                self._on_append(attempt, answer)
            if not attempt.over and attempt.pending:
                self.changed(attempt)

    async def _append(self, appends: list[LogAppend]) -> list[Appended]:
        while True:
            try:
                return await self._store.append(appends)
            except StoreUnavailable:
                # Generation goes on; a job whose lease expires meanwhile is answered `lost`.
                log.warning("append_failed_store_unavailable", jobs=len(appends))
                await asyncio.sleep(RETRY_SECONDS)
