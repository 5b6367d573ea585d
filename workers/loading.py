"""Says in Redis that this worker loads its model, so that the autoscaler does not remove it.

Invariant: what it says expires, so a worker that is killed while it loads keeps no replica.
"""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import structlog

from core.errors import StoreUnavailable
from jobs.store.job_store import JobStore
from workers.background_tasks import BackgroundTasks
from workers.worker_state import WorkerState

log = structlog.get_logger()

REPEAT_SECONDS = 5.0


class LoadingReport:
    """Reports one worker as loading, from before its engine starts until after it has started."""

    def __init__(self, store: JobStore, state: WorkerState, tasks: BackgroundTasks) -> None:
        self._store = store
        self._state = state
        self._tasks = tasks
        self._host = socket.gethostname()

    @asynccontextmanager
    async def during(self) -> AsyncIterator[None]:
        """Report while the block runs; it succeeded if it raises nothing.

        A report under way is waited for and not cancelled: Redis could run it after the end, which
        uses another connection, and the worker would count as loading until the report expires.
        """
        over = asyncio.Event()
        reporting = self._tasks.spawn(self._run(over))
        loaded = False
        try:
            yield
            loaded = True
        finally:
            over.set()
            await asyncio.wait([reporting])
            await self._end(loaded=loaded)

    async def _run(self, over: asyncio.Event) -> None:
        queue, worker = self._state.queue, self._state.id
        while self._state.phase == "loading" and not over.is_set():
            try:
                if not await self._store.loading(queue, worker, self._host):
                    log.warning("loading_not_counted", reason="this host has loaded for too long")
            except StoreUnavailable:
                log.warning("loading_not_reported_store_unavailable")
            with suppress(TimeoutError):
                await asyncio.wait_for(over.wait(), REPEAT_SECONDS)

    async def _end(self, *, loaded: bool) -> None:
        queue, worker = self._state.queue, self._state.id
        try:
            await self._store.end_loading(queue, worker, self._host, loaded=loaded)
        except StoreUnavailable:
            log.warning("end_of_loading_not_reported_store_unavailable")
