"""How much may wait before jobs are shed, tier by tier: flex first, priority last.

A tier is refused once the whole queue has reached its share of `queue.max_queued`, or, where
`queue.shed_wait_seconds` is set, once what goes before it takes longer than that at the pace
that was measured. Invariant: a refusal says when to come back, computed from the same pace.
"""

import asyncio
from math import ceil
from time import monotonic
from typing import NamedTuple

from core.errors import StoreUnavailable
from core.redis.client import Scripts
from core.settings.queue import QueueSettings
from jobs.eta import ServiceTimes
from jobs.fairness import ServiceTier

PACE_SECONDS = 1.0

#: Without a worker or a finished job nothing is known about the pace.
UNKNOWN_SECONDS = 30.0
LEAST_SECONDS, MOST_SECONDS = 1.0, 300.0


class QueueBounds(NamedTuple):
    """How many jobs may wait in a queue, and how many before one of this tier ('': any number)."""

    queued: int
    ahead: int | str


class LoadShedding:
    """The bounds of every queue, and the pace they go by."""

    def __init__(self, scripts: Scripts, settings: QueueSettings) -> None:
        self._scripts = scripts
        self._longest = settings.shed_wait_seconds
        shares = {
            ServiceTier.PRIORITY: 1.0,
            ServiceTier.DEFAULT: settings.shed_default_at,
            ServiceTier.FLEX: settings.shed_flex_at,
        }
        self._queued = {tier: ceil(settings.max_queued * share) for tier, share in shares.items()}
        self._paces: dict[str, tuple[float, float | None]] = {}
        self._reading: dict[str, asyncio.Task[None]] = {}

    async def bounds(self, queue: str, tier: ServiceTier) -> QueueBounds:
        """Return what may wait when a job of this tier comes."""
        queued = self._queued[tier]
        if self._longest is None:
            return QueueBounds(queued, "")
        pace = await self._known_pace(queue)
        return QueueBounds(queued, "" if pace is None else max(1, int(self._longest * pace)))

    async def seconds_until(self, queue: str, jobs: int) -> float:
        """Estimate when so many jobs will have left the queue."""
        times = await self.service_times(queue)
        pace = _pace(times)
        if pace is None:
            return UNKNOWN_SECONDS
        return min(MOST_SECONDS, max(LEAST_SECONDS, jobs / pace))

    async def service_times(self, queue: str) -> ServiceTimes:
        """Read what is known about a queue's service."""
        return (await self.place(queue, ""))[1]

    async def place(self, queue: str, job_id: str) -> tuple[int, ServiceTimes]:
        """Return how many jobs go before a waiting one, -1 if it does not wait; and the service."""
        answer = await self._scripts.call("position", queue, job_id)
        rank, running, slots, n, mean, square, now = answer
        return int(rank), ServiceTimes(
            int(running), int(slots), int(n), float(mean), float(square), int(now)
        )

    async def _known_pace(self, queue: str) -> float | None:
        """Return jobs a second as last read; only the first reading is waited for."""
        known = self._paces.get(queue)
        if known is None or monotonic() - known[0] > PACE_SECONDS:
            task = self._reading.get(queue)
            if task is None or task.done():
                task = self._reading[queue] = asyncio.create_task(self._read_pace(queue))
            if known is None:
                await asyncio.shield(task)
                known = self._paces.get(queue)
        return None if known is None else known[1]

    async def _read_pace(self, queue: str) -> None:
        try:
            self._paces[queue] = monotonic(), _pace(await self.service_times(queue))
        except StoreUnavailable:
            # The submit that wanted to know will find out for itself.
            self._paces.pop(queue, None)


def _pace(times: ServiceTimes) -> float | None:
    """Return jobs a second, None where nothing was measured or nobody works."""
    if not times.slots or not times.finished or not times.mean:
        return None
    return 1000 * times.slots / times.mean
