"""Sheds load tier by tier: flex jobs are refused first, priority jobs last.

A tier is refused once the whole queue has reached its share of `queue.max_queued`. Where
`queue.shed_wait_seconds` is set, it is also refused once the jobs before it would take longer
than that at the measured pace. Invariant: a refusal says when to retry, from the same pace.
"""

import asyncio
from math import ceil
from time import monotonic
from typing import NamedTuple

from core.errors import StoreUnavailable
from core.redis.scripts import Scripts
from core.settings.queue import QueueSettings
from jobs.eta import ServiceTimes
from jobs.fairness import ServiceTier
from jobs.store.queue_control import QueueMode
from jobs.store.script_args import PositionArgs
from jobs.store.script_rows import PositionRow

#: How long a measured pace is used before it is read again.
PACE_SECONDS = 1.0

#: Retry-After while the pace is unknown: no worker, no finished job, or a paused queue.
UNKNOWN_SECONDS = 30.0
LEAST_SECONDS, MOST_SECONDS = 1.0, 300.0


class QueueBounds(NamedTuple):
    """Most jobs that may wait in a queue, and most before one of this tier ('': no bound)."""

    queued: int
    ahead: int | str


class LoadShedding:
    """The bounds of every queue, from the settings and the measured pace."""

    def __init__(self, scripts: Scripts, settings: QueueSettings) -> None:
        self._scripts = scripts
        self._longest = settings.shed_wait_seconds
        shares = {
            ServiceTier.PRIORITY: 1.0,
            ServiceTier.DEFAULT: settings.shed_default_at,
            ServiceTier.FLEX: settings.shed_flex_at,
        }
        self._bounds = {
            tier: QueueBounds(ceil(settings.max_queued * share), "")
            for tier, share in shares.items()
        }
        self._paces: dict[str, tuple[float, float | None]] = {}
        self._reading: dict[str, asyncio.Task[None]] = {}

    async def bounds(self, queue: str, tier: ServiceTier) -> QueueBounds:
        """Return the bounds that a new job of this tier must fit."""
        bounds = self._bounds[tier]
        if self._longest is None:
            return bounds
        pace = await self._known_pace(queue)
        return bounds if pace is None else bounds._replace(ahead=max(1, int(self._longest * pace)))

    async def seconds_until(self, queue: str, jobs: int) -> float:
        """Estimate in how many seconds this many jobs will have left the queue."""
        times = await self.service_times(queue)
        pace = _pace(times)
        if pace is None:
            return UNKNOWN_SECONDS
        return min(MOST_SECONDS, max(LEAST_SECONDS, jobs / pace))

    async def service_times(self, queue: str) -> ServiceTimes:
        """Read a queue's service times."""
        return (await self.place(queue, ""))[1]

    async def place(self, queue: str, job_id: str) -> tuple[int, ServiceTimes]:
        """Return how many jobs are before this one (-1: it is not ready), and service times."""
        row = PositionRow(*await self._scripts.call("position", *PositionArgs(queue, job_id)))
        return row.rank, ServiceTimes(
            running=row.running,
            slots=row.slots,
            finished=int(row.finished),
            mean=float(row.mean),
            square=float(row.square),
            now=int(row.now),
            runs=QueueMode(row.mode.decode()).runs,
        )

    async def _known_pace(self, queue: str) -> float | None:
        """Return jobs per second as last read; only the first read is awaited."""
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
            # The submit that needs the pace fails by itself on its own call.
            self._paces.pop(queue, None)


def _pace(times: ServiceTimes) -> float | None:
    """Return jobs per second, None while nothing starts, without a measurement or a worker."""
    if not times.runs or not times.slots or not times.finished or not times.mean:
        return None
    return 1000 * times.slots / times.mean
