"""The step writer: what one engine step produced leaves in one script call.

One append is under way at a time; what arrives meanwhile goes with the next, so a slow Redis
makes batches larger instead of queues longer. Jobs nobody watches are written every
`unwatched_flush_seconds` or tokens. Invariant: after an append whose answer was lost the very
same one is sent again (the script tells a repeat), so no event is written twice or skipped.
"""

import asyncio
from collections.abc import Callable

import structlog

from jobs import metrics
from jobs.errors import StoreUnavailable
from jobs.settings import StreamSettings
from jobs.store import Append, Appended, JobStore
from workers.run import Run

log = structlog.get_logger()

RETRY_SECONDS = 0.2


class StepWriter:
    """Writes runs' pending events; `answered` hears the script's answer for each."""

    def __init__(
        self,
        store: JobStore,
        settings: StreamSettings,
        queue: str,
        worker: str,
        answered: Callable[[Run, Appended], None],
    ) -> None:
        self._store = store
        self._settings = settings
        self._queue = queue
        self._worker = worker
        self._answered = answered
        self._due: dict[str, Run] = {}
        self._later: dict[str, Run] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._bell = asyncio.Event()

    def changed(self, run: Run) -> None:
        """A run has something to write: now if somebody watches or it ends, else soon."""
        urgent = run.watched or run.stopping
        if urgent or run.pending_tokens >= self._settings.unwatched_flush_tokens:
            self.flush(run)
        elif run.id not in self._due:
            self._later[run.id] = run
            if self._timer is None:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(
                    self._settings.unwatched_flush_seconds, self._flush_later
                )

    def flush(self, run: Run) -> None:
        """Write a run's pending events with the next append."""
        self._later.pop(run.id, None)
        self._due[run.id] = run
        self._bell.set()

    def _flush_later(self) -> None:
        self._timer = None
        self._due.update(self._later)
        self._later.clear()
        self._bell.set()

    def forget(self, run: Run) -> None:
        """Write nothing more for a run."""
        self._due.pop(run.id, None)
        self._later.pop(run.id, None)

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await self._bell.wait()
            self._bell.clear()
            runs, self._due = [run for run in self._due.values() if not run.over], {}
            if runs:
                await self._write(runs)

    async def _write(self, runs: list[Run]) -> None:
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

    async def _append(self, steps: list[Append]) -> list[Appended]:
        while True:
            try:
                return await self._store.append(self._worker, steps)
            except StoreUnavailable:
                # Generation goes on; a job whose lease runs out meanwhile answers `lost`.
                log.warning("append_failed_store_unavailable", jobs=len(steps))
                await asyncio.sleep(RETRY_SECONDS)
