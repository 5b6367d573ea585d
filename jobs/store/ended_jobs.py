"""Jobs that have ended: which they are, what is left of them, and letting them go.

Invariant: what the ledger has not acknowledged is not let go of; a tombstone says whose job it
was, and whether its client erased it.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from redis.asyncio import Redis

from core.redis.client import Scripts, guarded
from core.redis.keys import Keys
from jobs.job import LISTED_FIELDS, JobSpec
from jobs.store.transitions import EndedJob

#: How many jobs one look at ends asks for; nothing else runs meanwhile.
ENDED_AT_ONCE = 500


class EndedJobs:
    """What the ledger and batches need of jobs after their end."""

    def __init__(self, redis: Redis, keys: Keys, scripts: Scripts, keep: Sequence[Any]) -> None:
        self._read: Any = redis
        self._keys = keys
        self._scripts = scripts
        self._keep = keep

    async def among(self, job_ids: Sequence[str]) -> list[EndedJob]:
        """Return which of these jobs have ended, or have no record; the others are open."""
        found: list[EndedJob] = []
        for start in range(0, len(job_ids), ENDED_AT_ONCE):
            answer = await self._scripts.call("ended", *job_ids[start : start + ENDED_AT_ONCE])
            found += [EndedJob(row[0].decode(), row[1].decode(), int(row[2])) for row in answer]
        return found

    async def tombstones(self, job_ids: Sequence[str]) -> dict[str, bytes]:
        """Return the tombstones of those jobs that have one."""
        async with guarded():
            stones = await self._read.mget([self._keys.gone(job_id) for job_id in job_ids])
        pairs = zip(job_ids, stones, strict=True)
        return {job_id: stone for job_id, stone in pairs if stone is not None}

    async def records(
        self, jobs: Iterable[tuple[str, int]]
    ) -> list[tuple[list[bytes | None], list[Any]]]:
        """Return each job's raw `LISTED_FIELDS`, nil where it is gone, and that much of its log."""
        words = [word for job in jobs for word in job]
        answer = await self._scripts.call("finished", len(LISTED_FIELDS), *LISTED_FIELDS, *words)
        return [(values, log) for values, log in answer]

    async def kept_bodies(self, job_ids: Sequence[str]) -> list[bytes | None]:
        """Return the bodies of jobs whose clients asked for them to be kept; None for others."""
        pipe = self._read.pipeline(transaction=False)
        for job_id in job_ids:
            pipe.hmget(self._keys.job(job_id), "spec", "body")
        async with guarded():
            answers = await pipe.execute()
        return [
            body if spec and JobSpec.decode(spec, b"{}").keeps_body else None
            for spec, body in answers
        ]

    async def archive(self, group: str, entry_ids: Sequence[str]) -> int:
        """Drop outbox entries that SQL has; returns how many were still there."""
        return int(await self._scripts.call("archive", group, *self._keep, *entry_ids))

    async def forget_consumers(self, group: str, idle_ms: int) -> int:
        """Take names out of an outbox group that have done nothing for so long and hold nothing."""
        return int(await self._scripts.call("forget_consumers", group, idle_ms))


def owner_of(tombstone: bytes) -> str:
    """Return whose job a tombstone stands for."""
    return tombstone.partition(b" ")[0].decode()


def was_erased(tombstone: bytes) -> bool:
    """Return whether its client erased the job, rather than retention."""
    return tombstone.endswith(b" erased")
