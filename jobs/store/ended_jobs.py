"""Finished jobs, for the ledger and for batches: find them, read them, archive their usage.

Invariant: the retention of a job starts only when the ledger has its usage (`retention.start`); a
tombstone names the account, and says whether the client erased the job.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from redis.asyncio import Redis

from core.redis.client import guarded
from core.redis.keys import Keys
from core.redis.scripts import Scripts
from jobs.job import LISTED_FIELDS, JobSpec
from jobs.store.script_args import ArchiveArgs, FinishedArgs, ForgetConsumersArgs, RetentionArgs
from jobs.store.script_rows import EndedRow
from jobs.store.transitions import EndedJob

#: Jobs per call of `ended.lua`; Redis runs nothing else meanwhile.
JOBS_PER_CALL = 500


class EndedJobs:
    """Jobs after their end. Every call may raise StoreUnavailable."""

    def __init__(
        self, redis: Redis, keys: Keys, scripts: Scripts, retention: RetentionArgs
    ) -> None:
        self._read: Any = redis
        self._keys = keys
        self._scripts = scripts
        self._retention = retention

    async def find(self, job_ids: Sequence[str]) -> list[EndedJob]:
        """Return those of these jobs that have ended or have no record; the others are open."""
        found: list[EndedJob] = []
        for start in range(0, len(job_ids), JOBS_PER_CALL):
            answer = await self._scripts.call("ended", *job_ids[start : start + JOBS_PER_CALL])
            rows = [EndedRow(*row) for row in answer]
            found += [
                EndedJob(row.job_id.decode(), row.status.decode(), int(row.last_seq))
                for row in rows
            ]
        return found

    async def tombstones(self, job_ids: Sequence[str]) -> dict[str, bytes]:
        """Return the tombstones of those jobs that have one."""
        async with guarded():
            found = await self._read.mget([self._keys.gone(job_id) for job_id in job_ids])
        pairs = zip(job_ids, found, strict=True)
        return {job_id: tombstone for job_id, tombstone in pairs if tombstone is not None}

    async def records(
        self, jobs: Iterable[tuple[str, int]]
    ) -> list[tuple[list[bytes | None], list[Any]]]:
        """Read records and logs.

        Args:
            jobs: Job id and the number of log events to read, each.

        Returns:
            Per job its raw `LISTED_FIELDS`, all None where it is gone, and its raw log entries.
        """
        pairs = [part for job in jobs for part in job]
        named = FinishedArgs(len(LISTED_FIELDS))
        answer = await self._scripts.call("finished", *named, *LISTED_FIELDS, *pairs)
        return [(values, log) for values, log in answer]

    async def kept_bodies(self, job_ids: Sequence[str]) -> list[bytes | None]:
        """Return the bodies of jobs whose clients want them kept; None for the others."""
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
        """Remove outbox entries that SQL has; returns how many were still there."""
        named = ArchiveArgs(group)
        return int(await self._scripts.call("archive", *named, *self._retention, *entry_ids))

    async def forget_consumers(self, group: str, idle_ms: int) -> int:
        """Remove consumers of an outbox group that hold no entry and were idle for `idle_ms`."""
        named = ForgetConsumersArgs(group, idle_ms)
        return int(await self._scripts.call("forget_consumers", *named))


def owner_of(tombstone: bytes) -> str:
    """Return the account of the job that a tombstone stands for."""
    return tombstone.partition(b" ")[0].decode()


def was_erased(tombstone: bytes) -> bool:
    """Return whether its client erased the job, rather than retention."""
    return tombstone.endswith(b" erased")
