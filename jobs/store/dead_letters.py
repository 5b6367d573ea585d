"""The dead-letter list: jobs whose attempts are used up, newest first, in pages and by filter.

One sorted set holds the jobs of all accounts, for operators, and one those of each account, so
that many failures of one account never hide those of another. Invariant: a page continues after
its cursor even if that job has left the list meanwhile.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, NamedTuple

from redis.asyncio import Redis

from core.redis.client import guarded
from core.redis.keys import Keys
from jobs.job import Job

#: Jobs read together, and the most that one page examines.
READ_JOBS = 200
PAGE_SCAN = 2_000


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which dead letters are wanted; None means any.

    Attributes:
        account: The account that they belong to.
        model: Their model.
        reason: The code of their last error.
        failed_after: They failed at this time or later, in Unix milliseconds.
        failed_before: They failed before this time.
    """

    account: str | None = None
    model: str | None = None
    reason: str | None = None
    failed_after: int | None = None
    failed_before: int | None = None

    def matches(self, job: Job) -> bool:
        """Return whether a job is wanted; its time is not looked at."""
        return (
            self.account in (None, job.account)
            and self.model in (None, job.queue)
            and self.reason in (None, (job.error or {}).get("code"))
        )


class DeadLetterCursor(NamedTuple):
    """Where a page ends: when its last job failed, in Unix milliseconds, and the job's id."""

    failed: int
    job_id: str


class DeadLetterPage(NamedTuple):
    """Some jobs, without bodies; `after` is the cursor for the rest, None at the end."""

    jobs: list[Job]
    after: DeadLetterCursor | None


class DeadLetterCount(NamedTuple):
    """How many jobs match; at least as many where the time was up before all were counted."""

    matched: int
    complete: bool


class DeadLetters:
    """Reads and shortens the dead-letter list. Every call may raise StoreUnavailable."""

    def __init__(
        self, redis: Redis, keys: Keys, read_many: Callable[[list[str]], Awaitable[list[Job]]]
    ) -> None:
        """Open nothing.

        Args:
            redis: The client.
            keys: The names of the keys.
            read_many: Reads jobs by id, without those that have no record.
        """
        self._redis: Any = redis
        self._keys = keys
        self._read_many = read_many

    async def page(
        self, wanted: DeadLetterFilter, *, limit: int, after: DeadLetterCursor | None = None
    ) -> DeadLetterPage:
        """List jobs, newest first.

        Args:
            wanted: Which.
            limit: Most jobs to return. At most PAGE_SCAN are examined, so that a page of a rare
                filter may hold fewer and still have a cursor.
            after: The cursor of the page before.
        """
        found: list[Job] = []
        examined = 0
        async for jobs, last in self._scan(wanted, after):
            found += [job for job in jobs if wanted.matches(job)]
            examined += READ_JOBS
            if len(found) > limit:
                end = found[limit - 1]
                return DeadLetterPage(found[:limit], DeadLetterCursor(end.finished, end.id))
            if examined >= PAGE_SCAN:
                return DeadLetterPage(found, last)
        return DeadLetterPage(found, None)

    async def count(self, wanted: DeadLetterFilter, seconds: float) -> DeadLetterCount:
        """Count matching jobs, for about `seconds` at most."""
        give_up, matched = monotonic() + seconds, 0
        async for jobs, _ in self._scan(wanted, None):
            matched += sum(wanted.matches(job) for job in jobs)
            if monotonic() > give_up:
                return DeadLetterCount(matched, complete=False)
        return DeadLetterCount(matched, complete=True)

    async def remove(self, job: Job) -> None:
        """Remove a job from the list; its record stays."""
        async with guarded():
            pipe: Any = self._redis.pipeline(transaction=True)
            pipe.zrem(self._keys.dead, job.id)
            pipe.zrem(self._keys.account_dead(job.account), job.id)
            await pipe.execute()

    async def _scan(
        self, wanted: DeadLetterFilter, after: DeadLetterCursor | None
    ) -> AsyncIterator[tuple[list[Job], DeadLetterCursor]]:
        """Yield jobs by time, and where each group ends."""
        key = self._keys.dead if wanted.account is None else self._keys.account_dead(wanted.account)
        if wanted.failed_before is not None:
            limit = DeadLetterCursor(wanted.failed_before, "")
            after = limit if after is None else min(limit, after)
        low = wanted.failed_after or 0
        while True:
            entries = await self._entries(key, after)
            fresh = [entry for entry in entries if entry.failed >= low]
            if fresh:
                async with guarded():
                    jobs = await self._read_many([entry.job_id for entry in fresh])
                yield jobs, fresh[-1]
                after = fresh[-1]
            if not fresh or len(fresh) < len(entries):
                return

    async def _entries(self, key: str, after: DeadLetterCursor | None) -> list[DeadLetterCursor]:
        """Return the next entries after a cursor; within one millisecond ids count down."""
        async with guarded():
            first = 0
            if after is not None:
                first = await self._redis.zcount(key, f"({after.failed}", "+inf")
            while True:
                last = first + READ_JOBS - 1
                raw = await self._redis.zrevrange(key, first, last, withscores=True)
                entries = [DeadLetterCursor(int(score), name.decode()) for name, score in raw]
                new = [entry for entry in entries if after is None or entry < after]
                if new or not entries:
                    return new
                first += READ_JOBS
