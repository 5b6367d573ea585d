"""Reads live jobs: records, logs, lists and a job's place in its queue.

Invariant: nothing here changes a job. A read may be stale by the time it returns.
"""

from typing import Any

import orjson
from redis.asyncio import Redis

from core.errors import InvalidJob, JobGone, JobNotFound
from core.redis.client import accepts_writes, guarded
from core.redis.keys import Keys
from core.redis.scripts import Scripts
from core.settings.tree import Settings
from jobs.eta import NoEta, OutputProgress, estimate, estimate_running, missing
from jobs.events import Event, from_stream
from jobs.job import LISTED_FIELDS, Job
from jobs.status import Status
from jobs.store.ended_jobs import owner_of
from jobs.store.load_shedding import LoadShedding
from jobs.store.script_args import RetentionArgs
from jobs.store.transitions import QueuePlace

#: How many jobs one page of a list examines.
LIST_SCAN = 2_000


class JobReader:
    """Live jobs in Redis, for readers. Every call may raise StoreUnavailable."""

    def __init__(self, redis: Redis, scripts: Scripts, settings: Settings) -> None:
        self.redis = redis
        self.keys = Keys(settings.redis.prefix)
        self.shedding = LoadShedding(scripts, settings.queue)
        # redis-py types replies for every protocol and decoding together.
        self._read: Any = redis
        self._scripts = scripts
        self._settings = settings
        retention = settings.retention
        self._retention = RetentionArgs(
            ttl_ms=retention.seconds * 1000,
            tombstone_ms=retention.tombstone_seconds * 1000,
            dead_ttl_ms=retention.dead_seconds * 1000,
            starts_at_archive="1" if retention.start == "archive" else "0",
        )

    async def worker_weights(self, queue: str) -> set[str]:
        """Return the digests of the weights that the live workers of a queue have.

        Raises:
            StoreUnavailable: Redis is away.
        """
        async with guarded():
            workers = await self._read.zrange(self.keys.part(queue, "workers"), 0, -1)
            names = [self.keys.worker(worker.decode()) for worker in workers]
            said = await self._read.mget(names) if names else []
        found = {str(orjson.loads(one).get("weights", "")) for one in said if one}
        return found - {""}

    async def check_writable(self) -> None:
        """Raise StoreUnavailable unless Redis accepts writes now."""
        await accepts_writes(self.redis, self.keys)

    async def get(self, job_id: str, account: str | None) -> Job:
        """Read a job.

        Args:
            job_id: The job.
            account: Only a job of this account is found; None finds any (for an operator).

        Raises:
            JobNotFound: The id is unknown or belongs to another account.
            JobGone: The job finished and its retention has passed.
        """
        async with guarded():
            raw = await self._read.hgetall(self.keys.job(job_id))
            if not raw:
                gone = await self._read.get(self.keys.gone(job_id))
                if gone is not None and account in (None, owner_of(gone)):
                    raise JobGone(f"job {job_id} finished and is no longer kept")
        if not raw or account not in (None, raw[b"account"].decode()):
            raise JobNotFound(f"job {job_id} not found")
        return Job.from_hash(job_id, raw)

    async def place(self, job: Job) -> QueuePlace:
        """Return a waiting job's position, from 1, and the estimated time until it is done."""
        if job.status.is_terminal:
            return QueuePlace(None, None)
        rank, times = await self.shedding.place(job.queue, job.id)
        if job.status is Status.IN_PROGRESS:
            run_ms = max(0, times.now - job.claimed)
            eta = estimate_running(run_ms / 1000, times, _output(job, run_ms))
            return QueuePlace(None, eta, run_ms, None if eta else NoEta.NO_MEASUREMENT)
        reason = missing(times)
        if rank < 0:
            # Parked or delayed, unless the queue itself is what the job waits for.
            return QueuePlace(None, None, no_eta=reason or NoEta.NOT_READY)
        return QueuePlace(rank + 1, estimate(rank, times), no_eta=reason)

    async def list_jobs(
        self, account: str, *, limit: int, before: str | None, status: Status | None
    ) -> list[Job]:
        """List an account's jobs, newest first; their specs have no bodies.

        Args:
            account: The account.
            limit: Most jobs to return.
            before: Only jobs whose ids sort before this one.
            status: Only jobs with this status. At most LIST_SCAN jobs are examined, so that a
                rare status may need more pages.
        """
        found: list[Job] = []
        high = "+" if before is None else f"({before}"
        offset = 0
        async with guarded():
            while len(found) < limit and offset < LIST_SCAN:
                ids = await self._read.zrevrangebylex(
                    self.keys.account_jobs(account), high, "-", start=offset, num=limit * 2
                )
                if not ids:
                    break
                offset += len(ids)
                jobs = await self._read_many([raw.decode() for raw in ids])
                found += [job for job in jobs if status is None or job.status is status]
        return found[:limit]

    async def open_jobs(self, account: str) -> int:
        """Return how many jobs of an account wait or run."""
        pipe: Any = self.redis.pipeline(transaction=False)
        for queue in await self.queues():
            pipe.hget(self.keys.part(queue, "waiting"), account)
            pipe.hget(self.keys.part(queue, "running_by"), account)
        async with guarded():
            return sum(int(count or 0) for count in await pipe.execute())

    async def _read_many(self, ids: list[str]) -> list[Job]:
        pipe: Any = self.redis.pipeline(transaction=False)
        for job_id in ids:
            pipe.hmget(self.keys.job(job_id), LISTED_FIELDS)
        names = [name.encode() for name in LISTED_FIELDS]
        records = [
            {name: value for name, value in zip(names, values, strict=True) if value is not None}
            for values in await pipe.execute()
        ]
        return [Job.from_hash(job_id, raw) for job_id, raw in zip(ids, records, strict=True) if raw]

    async def read_log(self, job_id: str, after: int, count: int | None = None) -> list[Event]:
        """Return the events after seq `after`, at most `count`; empty when the job is gone."""
        async with guarded():
            entries = await self._read.xrange(
                self.keys.log(job_id), min=f"{after + 1}-0", max="+", count=count
            )
        return [from_stream(entry_id, fields) for entry_id, fields in entries]

    async def queues(self) -> list[str]:
        """Return the queue of every known model, sorted."""
        async with guarded():
            return sorted(name.decode() for name in await self._read.smembers(self.keys.queues))


def _output(job: Job, run_ms: int) -> OutputProgress | None:
    """Return a running job's progress, if its request bounds its output."""
    body = job.spec.body
    limits = (body.get("max_completion_tokens"), body.get("max_tokens"))
    most = next((limit for limit in limits if isinstance(limit, int)), None)
    if most is None:
        return None
    seconds = (job.run_ms + run_ms) / 1000
    return OutputProgress(job.output_tokens, seconds, most * (body.get("n") or 1))


def check_cursor(after: int, last_seq: int) -> None:
    """Refuse a cursor beyond the end of the log.

    Raises:
        InvalidJob: The message names the last event.
    """
    if after > last_seq:
        raise InvalidJob(
            f"cursor {after} is beyond the last event, {last_seq}",
            param="starting_after",
        )
