"""The job store: each transition of a job, live records and logs; its parts stand beside it.

Invariant: every transition is one script, hence atomic, and safe to repeat when an answer was
lost: submit by job id, append by position, finish and requeue by fence, the rest by nature. Only
what a lost `claim` leased stands until the lease is over. A refused transition is an answer the
caller must handle, never an exception to ignore.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
from redis.asyncio import Redis

from accounts.caller_cache import CallerCacheWriter, SignInAttempts
from core.errors import InvalidJob, JobConflict, JobGone, JobNotFound, PipelineError
from core.redis.client import Scripts, guarded
from core.redis.keys import Keys
from core.settings.tree import Settings
from jobs.eta import estimate, estimate_running
from jobs.events import Event, from_stream
from jobs.fairness import estimated_tokens
from jobs.job import LISTED_FIELDS, Job, JobSpec
from jobs.status import Status
from jobs.store.batch_idempotency import BatchKeys
from jobs.store.budget_reservations import BudgetReservations
from jobs.store.ended_jobs import EndedJobs, owner_of
from jobs.store.load_shedding import LoadShedding
from jobs.store.queue_control import QueueControl
from jobs.store.queue_state import LOOK_AT, QueueState
from jobs.store.rate_limits import standings
from jobs.store.rejections import ROOM, mismatch, no_room, refuse
from jobs.store.transitions import (
    AbandonedAttempt,
    AcceptedJob,
    Appended,
    ClaimedJob,
    Ending,
    LogAppend,
    QueuePlace,
    Submission,
    SweepResult,
)

#: How many unreadable messages are kept.
DEAD_TICKETS_KEPT = 1_000

#: How many jobs one page of a list looks at.
LIST_SCAN = 2_000


def _error_json(error: PipelineError | None) -> bytes:
    return orjson.dumps(error.as_dict()) if error else b""


class JobStore:
    """Live jobs in Redis."""

    def __init__(self, redis: Redis, settings: Settings, ticket: str) -> None:
        self.redis = redis
        # redis-py types replies for every protocol and decoding at once.
        self._read: Any = redis
        self.keys = Keys(settings.redis.prefix)
        self._settings = settings
        self._scripts = Scripts(redis, settings.redis.prefix, ticket)
        self.holds = BudgetReservations(self._scripts)
        self.shedding = LoadShedding(self._scripts, settings.queue)
        self.callers = CallerCacheWriter(redis, self.keys, self._scripts)
        self.sign_ins = SignInAttempts(redis, self.keys, self._scripts)
        retention = settings.retention
        self._keep = (
            retention.seconds * 1000,
            retention.tombstone_seconds * 1000,
            retention.dead_seconds * 1000,
            "1" if retention.start == "archive" else "0",
        )
        self.control = QueueControl(self._scripts, self._keep)
        self.ended = EndedJobs(redis, self.keys, self._scripts, self._keep)
        self.batch_keys = BatchKeys(redis, self.keys, retention.idempotency_seconds)

    @property
    def keeps_until_archived(self) -> bool:
        """Whether nothing but its client takes a job away before the ledger has it."""
        return self._settings.retention.start == "archive"

    async def close(self) -> None:
        """Finish calls under way and close the connections."""
        await self._scripts.close()
        await self.redis.aclose()

    # --- submitting -------------------------------------------------------------------

    async def submit(self, job: Submission) -> AcceptedJob:
        """Accept a job, or raise why not; once it returns, the job is never lost.

        Raises:
            IdempotencyMismatch: the key was used with another body.
            InvalidJob: a limit in time has passed already, by Redis's clock.
            BudgetExceeded: the hold does not fit what is left.
            SpendingUnknown: nobody has said yet what was spent in the hold's bucket.
            RateLimited, LimitTooSmall: the key or its account has no room in a minute's worth.
            QueueFull, WaitTooLong: the queue, or a share of it, is at its bound.
            QueueDraining: it takes no jobs at the moment.
            LockLost: another has the lock, or nobody.
            StoreUnavailable: Redis is away; the job may or may not have been accepted.
        """
        settings, quota = self._settings.queue, job.quota
        spec, body = job.spec.encode(), orjson.dumps(job.spec.body)
        cost = estimated_tokens(job.spec.body, len(body))
        digest = _fingerprint(job, body) if job.idempotency_key else ""
        bounds = await self.shedding.bounds(job.queue, job.spec.service_tier)
        answer = await self._scripts.call(
            "submit",
            job.id,
            job.account,
            job.queue,
            job.spec.service_tier.rank,
            cost,
            job.weight,
            spec,
            job.idempotency_key,
            digest,
            self._settings.retention.idempotency_seconds * 1000,
            bounds.queued,
            _least(settings.max_queued_per_account, quota.account_queued),
            job.start_by or "",
            job.deadline or "",
            _least(job.max_running, quota.account_running),
            job.watcher,
            job.key_id,
            body,
            quota.words,
            bounds.ahead,
            *(job.lock or ("", "")),
            *(job.hold.arguments() if job.hold else ()),
        )
        if answer[0] in ROOM:
            seconds = await self.shedding.seconds_until(job.queue, int(answer[1]))
            longest = settings.shed_wait_seconds
            raise no_room(job.spec.service_tier, answer[0], seconds, longest)
        if answer[0] not in (b"accepted", b"replayed"):
            refuse(job, cost, answer)
        left = standings(quota.rates, answer[3:]) if quota.rates else ()
        if answer[0] == b"accepted":
            return AcceptedJob(job.id, False, int(answer[2]), left)
        return AcceptedJob(answer[1].decode(), True, 0, left)

    async def repeated(self, job: Submission) -> AcceptedJob | None:
        """Return the job that this submission repeats by its idempotency key, if there is one.

        Raises:
            IdempotencyMismatch: the key was used with another body.
        """
        if not job.idempotency_key:
            return None
        async with guarded():
            seen = await self._read.get(self.keys.idempotency(job.account, job.idempotency_key))
        if seen is None:
            return None
        digest, first = seen.decode().split()
        if digest != _fingerprint(job, orjson.dumps(job.spec.body)):
            raise mismatch()
        return AcceptedJob(first, replayed=True)

    # --- reading ----------------------------------------------------------------------

    async def get(self, job_id: str, account: str | None) -> Job:
        """Read a job of this account; of any when None (for an administrator).

        Raises:
            JobNotFound: unknown, or another account's.
            JobGone: finished and past its retention.
        """
        async with guarded():
            raw = await self._read.hgetall(self.keys.job(job_id))
            if not raw:
                gone = await self._read.get(self.keys.gone(job_id))
                if gone is not None and account in (None, owner_of(gone)):
                    raise JobGone(f"job {job_id} finished and is no longer kept")
        if not raw or account not in (None, raw[b"account"].decode()):
            raise JobNotFound(f"no job {job_id}")
        return Job.from_hash(job_id, raw)

    async def place(self, job: Job) -> QueuePlace:
        """Return a waiting job's position and estimated time of completion."""
        if job.status.is_terminal:
            return QueuePlace(None, None)
        rank, times = await self.shedding.place(job.queue, job.id)
        if job.status is Status.IN_PROGRESS:
            run_ms = max(0, times.now - job.claimed)
            return QueuePlace(None, estimate_running(run_ms / 1000, times), run_ms)
        return QueuePlace(None, None) if rank < 0 else QueuePlace(rank + 1, estimate(rank, times))

    async def list_jobs(
        self, account: str, *, limit: int, before: str | None, status: Status | None
    ) -> list[Job]:
        """Return up to `limit` jobs with ids before the given one, newest first.

        With a status, at most LIST_SCAN jobs are looked at, so a rare one may need more pages.
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

    async def list_dead(self, account: str | None, *, limit: int) -> list[Job]:
        """Return dead-letter jobs, newest first; of one account, or of all when None."""
        async with guarded():
            ids = await self._read.zrevrange(self.keys.dead, 0, 10 * limit)
            jobs = await self._read_many([raw.decode() for raw in ids])
        return [job for job in jobs if account in (None, job.account)][:limit]

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
        """Return the events after seq `after`, at most `count`."""
        async with guarded():
            entries = await self._read.xrange(
                self.keys.log(job_id), min=f"{after + 1}-0", max="+", count=count
            )
        return [from_stream(entry_id, fields) for entry_id, fields in entries]

    # --- a client's changes -----------------------------------------------------------

    async def cancel(self, job_id: str, account: str) -> str:
        """Stop a job; idempotent. Returns `cancelling` or the terminal status it has.

        Raises:
            JobNotFound, JobGone: as `get`.
        """
        answer: bytes = await self._scripts.call("cancel", job_id, account, *self._keep)
        if answer == b"missing":
            await self.get(job_id, account)
            raise JobNotFound(f"no job {job_id}")
        return answer.decode()

    async def delete(self, job_id: str, account: str) -> None:
        """Erase a finished job.

        Raises:
            JobConflict: it is not finished.
            JobNotFound, JobGone: as `get`.
        """
        answer: bytes = await self._scripts.call(
            "delete", job_id, account, self._settings.retention.tombstone_seconds * 1000
        )
        if answer == b"missing":
            await self.get(job_id, account)
            raise JobNotFound(f"no job {job_id}")
        if answer != b"deleted":
            raise JobConflict(f"job {job_id} is {answer.decode()}: cancel it before deleting it")

    async def undead(self, job_id: str) -> None:
        """Take a job off the dead-letter list (it was retried as a new job)."""
        async with guarded():
            await self._read.zrem(self.keys.dead, job_id)

    async def watch(self, job_id: str, account: str, watcher: str) -> tuple[Status, int]:
        """Have a job's events published to a watcher; returns its status and last seq.

        Raises:
            JobNotFound, JobGone: as `get`.
        """
        answer = await self._scripts.call("watch", job_id, account, watcher)
        if not answer:
            await self.get(job_id, account)
            raise JobNotFound(f"no job {job_id}")
        return Status(answer[0].decode()), int(answer[1])

    async def unwatch(self, job_id: str, watcher: str) -> None:
        """Stop publishing a job's events to a watcher."""
        await self._scripts.call("unwatch", job_id, watcher)

    # --- a worker's changes -----------------------------------------------------------

    async def claim(self, queue: str, worker: str, n: int) -> list[ClaimedJob]:
        """Take up to n jobs, next in order first. Each has a lease and a new fence."""
        settings = self._settings
        answer = await self._scripts.call(
            "claim",
            queue,
            worker,
            n,
            int(settings.lease.seconds * 1000),
            int(settings.limits.run_seconds * 1000),
            int(settings.queue.ageing_seconds * 1000),
            settings.queue.ageing_every,
            *self._keep,
        )
        return [
            ClaimedJob(
                id=row[0].decode(),
                fence=int(row[1]),
                attempt=int(row[2]),
                spec=JobSpec.decode(row[3], row[12]),
                seq=int(row[4]),
                output_tokens=int(row[5]),
                input_tokens=int(row[6]) if row[6] else None,
                watched=row[7] == b"1",
                run_deadline=int(row[8]),
                now=int(row[9]),
                account=row[10].decode(),
                created=int(row[11]),
                queued=int(row[13]),
            )
            for row in answer
        ]

    async def append(self, worker: str, steps: Sequence[LogAppend]) -> list[Appended]:
        """Write one engine step for many jobs in one script call; safe to repeat."""
        args: list[Any] = [worker, *self._keep]
        for step in steps:
            args += (
                step.id,
                step.fence,
                step.after,
                step.input_tokens,
                step.cached_tokens,
                step.output_tokens,
                len(step.events),
            )
            for kind, data in step.events:
                args += (kind, data)
            ending = step.ending
            args += (ending.status, _error_json(ending.error)) if ending else ("", "")
        return [answer.decode() for answer in await self._scripts.call("append", *args)]

    async def finish(self, job_id: str, fence: int, ending: Ending) -> bool:
        """End a running job without further events; False when the lease is lost."""
        answer: bytes = await self._scripts.call(
            "finish", job_id, fence, ending.status, _error_json(ending.error), *self._keep
        )
        return answer == b"finished"

    async def requeue(
        self,
        job_id: str,
        fence: int,
        error: PipelineError | None,
        *,
        delay_seconds: float = 0.0,
        counted: bool = True,
    ) -> str:
        """Give a job back; returns `queued`, `cancelled`, `failed` (at the cap) or `lost`."""
        answer: bytes = await self._scripts.call(
            "requeue",
            job_id,
            fence,
            _error_json(error),
            int(delay_seconds * 1000),
            "1" if counted else "0",
            self._settings.retry.max_attempts,
            *self._keep,
        )
        return answer.decode()

    async def renew(
        self,
        queue: str,
        worker: str,
        slots: int,
        description: bytes,
        held: Sequence[tuple[str, int]],
    ) -> list[str]:
        """One heartbeat for all leases of a worker; returns the ids it has lost."""
        pairs = [part for job_id, fence in held for part in (job_id, fence)]
        lost = await self._scripts.call(
            "renew",
            queue,
            worker,
            int(self._settings.lease.seconds * 1000),
            slots,
            description,
            *pairs,
        )
        return [job_id.decode() for job_id in lost]

    async def bury_ticket(self, raw: bytes | str) -> None:
        """Keep a message that was no ticket for a human to look at; bounded."""
        async with guarded():
            await self._read.lpush(self.keys.dead_tickets, raw)
            await self._read.ltrim(self.keys.dead_tickets, 0, DEAD_TICKETS_KEPT - 1)

    # --- the control process ----------------------------------------------------------

    async def sweep(self, queue: str, limit: int = 500) -> SweepResult:
        """Repair one queue once."""
        retry = self._settings.retry
        answer = await self._scripts.call(
            "sweep",
            queue,
            limit,
            retry.max_attempts,
            int(retry.base_seconds * 1000),
            int(retry.cap_seconds * 1000),
            int(self._settings.lease.seconds * 1000),
            *self._keep,
        )
        return SweepResult(*answer[:6])._replace(
            abandoned=[AbandonedAttempt.of(row) for row in answer[6:]]
        )

    async def lock_sweeper(self, name: str, seconds: int) -> bool:
        """Take or keep the sweeper's lock; False when another control process has it."""
        return bool(await self._scripts.call("lock_sweeper", name, seconds * 1000))

    async def purge(self, limit: int = 500) -> int:
        """Forget finished jobs past their retention; returns how many."""
        return int(await self._scripts.call("purge", limit))

    async def lock(self, what: str, name: str, seconds: float) -> bool:
        """Take or keep a lock; False when another name has it. No time lets it go."""
        return bool(await self._scripts.call("lock", what, name, int(seconds * 1000)))

    async def observe(self, queue: str) -> QueueState:
        """Return what a queue looks like now, for metrics."""
        return QueueState.of(await self._scripts.call("observe", queue, LOOK_AT))

    async def queues(self) -> list[str]:
        """Return the queue of every model that is known."""
        async with guarded():
            return sorted(name.decode() for name in await self._read.smembers(self.keys.queues))


def _least(first: int, second: int) -> int:
    """Return the smaller of two limits, of which 0 is none."""
    return min(first, second) if first and second else first or second


def _fingerprint(job: Submission, body: bytes) -> str:
    """Hash what an idempotency key stands for; request id and trace differ between repeats."""
    fields = orjson.loads(replace(job.spec, traceparent=None).encode())
    fields.pop("request_id")
    # Limits in time are left out: a repeat may state them anew from its own clock.
    asked = [job.queue, fields, orjson.loads(body)]
    return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()


def check_cursor(after: int, last_seq: int) -> None:
    """Refuse a cursor that lies beyond the log.

    Raises:
        InvalidJob: naming what was expected.
    """
    if after > last_seq:
        raise InvalidJob(
            f"cursor {after} lies in the future: the last event is {last_seq}",
            param="starting_after",
        )
