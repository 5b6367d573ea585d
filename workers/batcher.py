"""The micro-batcher: collects tickets and claims as many jobs in one script call.

It waits for more tickets only while the engine is busy and the batch is not full, and never claims
more jobs than the engine has free slots. Invariant: every offered ticket is either bound to a
claimed job or acknowledged.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import structlog

from core import metrics
from core.errors import StoreUnavailable
from core.settings.queue import QueueSettings
from jobs.blame import Occupancy
from jobs.store.job_store import JobStore
from jobs.store.transitions import ClaimedJob

log = structlog.get_logger()

RETRY_SECONDS = 0.5
#: Free slots are checked again after this many seconds if the engine reported nothing.
ROOM_SECONDS = 0.25
#: A worker that must claim nothing asks again after this many seconds.
HELD_SECONDS = 0.05


class Acknowledgeable(Protocol):
    """A broker message that can be acknowledged."""

    def done(self) -> None:
        """Acknowledge it; call this once."""


class Batcher:
    """Turns tickets into claimed jobs. Use it from the event loop's thread only."""

    def __init__(
        self,
        store: JobStore,
        settings: QueueSettings,
        queue: str,
        worker: str,
        room: Callable[[], int],
        occupancy: Callable[[], Occupancy],
        held: Callable[[float], None],
        start: Callable[[ClaimedJob, Acknowledgeable], None],
    ) -> None:
        """Create a batcher without tickets.

        Args:
            store: The job store.
            settings: Batch size in jobs and waiting time in seconds.
            queue: The queue to claim from, which is the served model's name.
            worker: The worker's id.
            room: Returns how many more jobs the engine can take now.
            occupancy: Returns what the worker runs now.
            held: Called while the worker must run nothing before it gets a suspected job, with the
                seconds for which it has waited.
            start: Called for each claimed job with the ticket it is bound to.
        """
        self._store = store
        self._settings = settings
        self._queue = queue
        self._worker = worker
        self._room = room
        self._occupancy = occupancy
        self._held = held
        self._start = start
        #: The digest of the engine's weights; set before `run`.
        self.weights = ""
        self._tickets: deque[Acknowledgeable] = deque()
        self._wake = asyncio.Event()
        self._stopping = False
        self._held_since: float | None = None
        self.waiting_for_room = False

    def offer(self, ticket: Acknowledgeable) -> None:
        """Add a ticket.

        Args:
            ticket: Acknowledged by the batcher if it finds no job for it.
        """
        self._tickets.append(ticket)
        self._wake.set()

    def room_changed(self) -> None:
        """Check for free slots now instead of after ROOM_SECONDS."""
        if self.waiting_for_room:
            self._wake.set()

    def stop(self) -> None:
        """Stop claiming; `run` finishes a claim under way first, so that its jobs are started."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Claim jobs until `stop`, then acknowledge the unused tickets."""
        while True:
            await self._wait_for_work()
            if self._stopping:
                break
            busy = self._occupancy() is not Occupancy.EMPTY
            if busy and len(self._tickets) < self._settings.max_batch:
                await asyncio.sleep(self._settings.max_wait_seconds)
            count = min(len(self._tickets), self._room(), self._settings.max_batch)
            if count > 0:
                await self._claim([self._tickets.popleft() for _ in range(count)])
        while self._tickets:
            self._tickets.popleft().done()

    async def _wait_for_work(self) -> None:
        while not self._stopping and (not self._tickets or self._room() <= 0):
            self._wake.clear()
            self.waiting_for_room = bool(self._tickets)
            try:
                async with asyncio.timeout(ROOM_SECONDS if self._tickets else None):
                    await self._wake.wait()
            except TimeoutError:
                continue
        self.waiting_for_room = False

    async def _wait_for_suspect(self, most: Occupancy) -> None:
        """Claim nothing for a moment, because a job that may have stopped a worker is to come."""
        now = time.monotonic()
        if most is not Occupancy.EMPTY:
            self._held_since = None
        elif self._held_since is None:
            self._held_since = now
        else:
            self._held(now - self._held_since)
        await asyncio.sleep(HELD_SECONDS)

    async def _claim(self, tickets: Sequence[Acknowledgeable]) -> None:
        try:
            claim = await self._store.claim_for(
                self._queue, self._worker, len(tickets), self._occupancy(), self.weights
            )
        except StoreUnavailable:
            log.warning("claim_failed_store_unavailable", tickets=len(tickets))
            self._tickets.extendleft(tickets)
            await asyncio.sleep(RETRY_SECONDS)
            return
        if claim.held is not None:
            self._tickets.extendleft(tickets)
            await self._wait_for_suspect(claim.held)
            return
        self._held_since = None
        claimed = claim.jobs
        if claimed:
            metrics.claim_batch.labels(self._queue).observe(len(claimed))
        for job, ticket in zip(claimed, tickets, strict=False):
            self._start(job, ticket)
        for ticket in tickets[len(claimed) :]:
            ticket.done()
