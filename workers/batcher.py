"""The micro-batcher: gathers tickets, claims that many jobs in one script call.

It waits only while the engine is busy and the batch not full, and never takes more than the
engine has room for. Invariant: every ticket offered is either bound to a claimed job or done.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from core import metrics
from core.errors import StoreUnavailable
from core.settings.queue import QueueSettings
from jobs.store.job_store import JobStore
from jobs.store.transitions import ClaimedJob

log = structlog.get_logger()

RETRY_SECONDS = 0.5
#: How often room is looked for again when the engine gave no sign.
ROOM_SECONDS = 0.25


class Acknowledgeable(Protocol):
    """A ticket, as far as the batcher cares."""

    def done(self) -> None:
        """Acknowledge it."""


class Batcher:
    """Turns tickets into claimed jobs."""

    def __init__(
        self,
        store: JobStore,
        settings: QueueSettings,
        queue: str,
        worker: str,
        room: Callable[[], int],
        busy: Callable[[], bool],
        start: Callable[[ClaimedJob, Acknowledgeable], None],
    ) -> None:
        self._store = store
        self._settings = settings
        self._queue = queue
        self._worker = worker
        self._room = room
        self._busy = busy
        self._start = start
        self._tickets: deque[Acknowledgeable] = deque()
        self._bell = asyncio.Event()
        self._stopping = False
        self.waiting_for_room = False

    def offer(self, ticket: Acknowledgeable) -> None:
        """Take one more ticket."""
        self._tickets.append(ticket)
        self._bell.set()

    def room_changed(self) -> None:
        """The engine may have room again."""
        if self.waiting_for_room:
            self._bell.set()

    def stop(self) -> None:
        """Claim no more; a claim under way is finished first, so that no job waits for a lease."""
        self._stopping = True
        self._bell.set()

    async def run(self) -> None:
        """Claim until stopped, then let go of what was not used."""
        while True:
            await self._wait_for_work()
            if self._stopping:
                break
            if self._busy() and len(self._tickets) < self._settings.max_batch:
                await asyncio.sleep(self._settings.max_wait_seconds)
            n = min(len(self._tickets), self._room(), self._settings.max_batch)
            if n > 0:
                await self._claim([self._tickets.popleft() for _ in range(n)])
        while self._tickets:
            self._tickets.popleft().done()

    async def _wait_for_work(self) -> None:
        while not self._stopping and (not self._tickets or self._room() <= 0):
            self._bell.clear()
            self.waiting_for_room = bool(self._tickets)
            try:
                async with asyncio.timeout(ROOM_SECONDS if self._tickets else None):
                    await self._bell.wait()
            except TimeoutError:
                continue
        self.waiting_for_room = False

    async def _claim(self, tickets: Sequence[Acknowledgeable]) -> None:
        try:
            claimed = await self._store.claim(self._queue, self._worker, len(tickets))
        except StoreUnavailable:
            log.warning("claim_failed_store_unavailable", tickets=len(tickets))
            self._tickets.extendleft(tickets)
            await asyncio.sleep(RETRY_SECONDS)
            return
        if claimed:
            metrics.claim_batch.labels(self._queue).observe(len(claimed))
        for job, ticket in zip(claimed, tickets, strict=False):
            self._start(job, ticket)
        for ticket in tickets[len(claimed) :]:
            ticket.done()
