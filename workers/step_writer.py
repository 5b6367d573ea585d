"""The step writer: what one engine step produced leaves in one script call.

One append is under way at a time; what arrives meanwhile goes with the next, so a slow Redis
makes batches larger instead of queues longer. A job's first tokens and its end go at once. In
between, steps go together once a worker would write more than `events_per_second`: what a token
costs in Redis, the API and the client is per event. A stream waits at most twice `flush_seconds`
for it, as a rule less than once, and one alone not at all. Jobs nobody watches are written every
`unwatched_flush_seconds` or tokens. Invariant: after an append whose answer was lost the very
same one is sent again (the script tells a repeat), so no event is written twice or skipped.
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
    """Runs whose events wait for each other.

    They go with the first step that comes a pause after the last ones went, and if none comes,
    after as long again. `pause` gives the seconds for so many runs.
    """

    def __init__(
        self, pause: Callable[[int], float], release: Callable[[dict[str, Attempt]], None]
    ) -> None:
        self._pause = pause
        self._release = release
        self._seconds = 0.0
        self._runs: dict[str, Attempt] = {}
        self._open_at = 0.0
        self._opening: asyncio.Handle | None = None
        self._net: asyncio.TimerHandle | None = None

    def add(self, run: Attempt) -> None:
        """Hold a run; one that is held already stays."""
        self._runs[run.id] = run
        loop = asyncio.get_running_loop()
        if loop.time() >= self._open_at:
            # After the rest of this step, which comes in the same turn of the loop.
            self._opening = self._opening or loop.call_soon(self._go)
        elif self._net is None:
            self._net = loop.call_at(self._open_at + self._seconds, self._go)

    def drop(self, run: Attempt) -> None:
        """Hold a run no longer."""
        self._runs.pop(run.id, None)

    def _go(self) -> None:
        for handle in (self._opening, self._net):
            if handle is not None:
                handle.cancel()
        self._opening = self._net = None
        runs, self._runs = self._runs, {}
        self._seconds = self._pause(len(runs))
        self._open_at = asyncio.get_running_loop().time() + self._seconds
        self._release(runs)


class StepWriter:
    """Writes runs' pending events; `answered` hears the script's answer for each."""

    def __init__(
        self,
        store: JobStore,
        settings: StreamSettings,
        queue: str,
        worker: str,
        answered: Callable[[Attempt, Appended], None],
    ) -> None:
        self._store = store
        self._settings = settings
        self._queue = queue
        self._worker = worker
        self._answered = answered
        self._due: dict[str, Attempt] = {}
        self._watched = CoalescingBuffer(self._pause, self._release)
        self._unwatched = CoalescingBuffer(
            lambda _: settings.unwatched_flush_seconds, self._release
        )
        self._bell = asyncio.Event()

    def changed(self, run: Attempt) -> None:
        """A run has something to write: now if it begins or ends, else soon."""
        if run.stopping or not run.begun:
            self.flush(run)
        elif run.id in self._due:
            return
        elif run.watched:
            self._watched.add(run)
        elif run.pending_tokens >= self._settings.unwatched_flush_tokens:
            self.flush(run)
        else:
            self._unwatched.add(run)

    def flush(self, run: Attempt) -> None:
        """Write a run's pending events with the next append."""
        self._watched.drop(run)
        self._unwatched.drop(run)
        self._due[run.id] = run
        self._bell.set()

    def _pause(self, runs: int) -> float:
        settings = self._settings
        return min(settings.flush_seconds, (runs - 1) / settings.events_per_second)

    def _release(self, runs: dict[str, Attempt]) -> None:
        self._due.update(runs)
        self._bell.set()

    def forget(self, run: Attempt) -> None:
        """Write nothing more for a run."""
        self._due.pop(run.id, None)
        self._watched.drop(run)
        self._unwatched.drop(run)

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._bell.wait()
            self._bell.clear()
            runs, self._due = [run for run in self._due.values() if not run.over], {}
            if runs:
                await self._write(runs)

    async def _write(self, runs: list[Attempt]) -> None:
        steps = [run.next_append() for run in runs]
        metrics.step_events.labels(self._queue).observe(sum(len(step.events) for step in steps))
        answers = await self._append(steps)
        for run, step, answer in zip(runs, steps, answers, strict=True):
            if answer != "lost":
                run.wrote(len(step.events))
            if not run.over:
                self._answered(run, answer)
            if not run.over and run.pending:
                self.changed(run)

    async def _append(self, steps: list[LogAppend]) -> list[Appended]:
        while True:
            try:
                return await self._store.append(self._worker, steps)
            except StoreUnavailable:
                # Generation goes on; a job whose lease runs out meanwhile answers `lost`.
                log.warning("append_failed_store_unavailable", jobs=len(steps))
                await asyncio.sleep(RETRY_SECONDS)
