"""The job store: every change of a job from submit to its end.

Invariant: each transition is one script, hence atomic, and safe to repeat when an answer was lost:
submit by job id, append by position, finish and requeue by fence; cancel, delete and watch set
what they find set already. Only the
jobs of a lost `claim` stay leased until the lease is over. A refused transition is an answer that
the caller must handle, never an exception to ignore.
"""

import orjson
from redis.asyncio import Redis

from core.errors import JobConflict, JobNotFound, QueueFull, TokeniserUnavailable
from core.redis.client import guarded
from core.redis.scripts import Scripts
from core.settings.tree import Settings
from jobs.status import Status
from jobs.store import script_args as args
from jobs.store.batch_idempotency import BatchKeys
from jobs.store.budget_reservations import BudgetReservations
from jobs.store.dead_letters import DeadLetters
from jobs.store.ended_jobs import EndedJobs
from jobs.store.job_scripts import job_scripts
from jobs.store.model_retirement import ModelRetirement
from jobs.store.queue_control import QueueControl
from jobs.store.queue_state import LOOK_AT, QueueState
from jobs.store.rate_limits import Quota, rate_limit_statuses
from jobs.store.rejections import NO_ROOM, mismatch, no_room, rate_limited, refuse
from jobs.store.script_rows import SubmitOutcome, WatchedRow
from jobs.store.submit_args import fingerprint, submit_args
from jobs.store.transitions import (
    AbandonedAttempt,
    AcceptedJob,
    Submission,
    SweepResult,
)
from jobs.store.worker_transitions import WorkerTransitions

#: Retry-After in seconds while no worker of a model answers requests to its tokeniser.
NO_WORKER_SECONDS = 10.0

ACCEPTED, REPLAYED = SubmitOutcome.ACCEPTED.encode(), SubmitOutcome.REPLAYED.encode()


class JobStore(WorkerTransitions):
    """Live jobs in Redis. Every call may raise StoreUnavailable.

    Attributes:
        reservations: Money that jobs may cost, held back until their usage is in the ledger.
        control: Pausing, draining and purging of whole queues.
        retirement: Retired models.
        ended: Finished jobs, for the ledger and for batches.
        dead: The dead-letter list.
        batch_keys: Idempotency keys of batches.
    """

    def __init__(self, redis: Redis, settings: Settings, ticket: str) -> None:
        """Open nothing yet.

        Args:
            redis: The client; `close` closes it.
            settings: All settings; of `redis` the prefix is read.
            ticket: Pattern of a Celery message (`jobs.broker.tickets.ticket_template`).
        """
        scripts = Scripts(redis, settings.redis.prefix, job_scripts(ticket))
        super().__init__(redis, scripts, settings)
        self.reservations = BudgetReservations(self._scripts)
        self.control = QueueControl(self._scripts, self._retention)
        self.retirement = ModelRetirement(redis, self.keys, self._scripts, self.control)
        self.ended = EndedJobs(redis, self.keys, self._scripts, self._retention)
        self.dead = DeadLetters(redis, self.keys, self._read_many)
        self.batch_keys = BatchKeys(redis, self.keys, settings.retention.idempotency_seconds)

    @property
    def keeps_until_archived(self) -> bool:
        """Whether a finished job is kept until the ledger has it, unless its client erases it."""
        return self._settings.retention.start == "archive"

    async def close(self) -> None:
        """Finish calls under way and close the connections."""
        await self._scripts.close()
        await self.redis.aclose()

    # --- submitting -------------------------------------------------------------------

    async def submit(self, job: Submission) -> AcceptedJob:
        """Accept a job. Once this returns, the job is never lost.

        Args:
            job: The job, with the limits of its caller. A repeat with the same id, or with the
                same idempotency key and request, returns the first job.

        Raises:
            IdempotencyMismatch: The key was used with another request.
            InvalidJob: A limit in time has passed already, by Redis's clock.
            BudgetExceeded: The reservation does not fit what is left of a budget.
            SpendingUnknown: The spending of the reservation's month is not known yet.
            RateLimited: A rate of the key or its account has no room now.
            TooManyFailures: Too many jobs of the account failed in the last minute.
            LimitTooSmall: The job alone needs more than a rate's whole minute.
            QueueFull: The queue, or the account's or key's share of it, is at its bound.
            WaitTooLong: The job would wait longer than the operator lets jobs wait.
            QueueDraining: The queue takes no jobs at the moment.
            LockLost: The submission's lock is held by another process, or by none.
            StoreUnavailable: Redis is away; the job may or may not have been accepted.
        """
        bounds = await self.shedding.bounds(job.queue, job.spec.service_tier)
        named = submit_args(job, bounds, self._settings)
        scopes = job.reservation.scope_args() if job.reservation else ()
        answer = await self._scripts.call("submit", *named, *scopes)
        if answer[0] in NO_ROOM:
            seconds = await self.shedding.seconds_until(job.queue, int(answer[1]))
            longest = self._settings.queue.shed_wait_seconds
            raise no_room(job.spec.service_tier, answer[0], seconds, longest)
        if answer[0] not in (ACCEPTED, REPLAYED):
            refuse(job, named.cost, answer)
        rates = job.quota.rates
        statuses = rate_limit_statuses(rates, answer[3:]) if rates else ()
        if answer[0] == ACCEPTED:
            return AcceptedJob(job.id, False, int(answer[2]), statuses)
        return AcceptedJob(answer[1].decode(), True, 0, statuses)

    async def repeated(self, job: Submission) -> AcceptedJob | None:
        """Return the job that this submission repeats by its idempotency key, if there is one.

        Raises:
            IdempotencyMismatch: The key was used with another request.
        """
        if not job.idempotency_key:
            return None
        async with guarded():
            seen = await self._read.get(self.keys.idempotency(job.account, job.idempotency_key))
        if seen is None:
            return None
        digest, first = seen.decode().split()
        if digest != fingerprint(job, orjson.dumps(job.spec.body)):
            raise mismatch()
        return AcceptedJob(first, replayed=True)

    async def ask_tokeniser(self, model: str, account: str, quota: Quota, request: bytes) -> None:
        """Send a request to the tokeniser of a model; a worker takes it.

        Args:
            model: The served name.
            account: Whose request it is.
            quota: Its rates of requests are used.
            request: The message for the worker.

        Raises:
            TokeniserUnavailable: No worker of the model answers such requests.
            QueueFull: Too many of them wait.
            RateLimited: A rate of the key or its account has no room now.
            StoreUnavailable: Redis is away; the request may or may not be answered.
        """
        settings = self._settings.tokeniser
        expire_ms = int(settings.wait_seconds * 1000)
        named = args.TokeniseArgs(
            model, account, quota.script_args, settings.max_waiting, expire_ms, request
        )
        answer = await self._scripts.call("tokenise", *named)
        match SubmitOutcome(answer[0].decode()):
            case SubmitOutcome.NO_TOKENISER:
                text = f"no worker of model {model!r} runs now; a job would start one"
                raise TokeniserUnavailable(text, retry_after_seconds=NO_WORKER_SECONDS)
            case SubmitOutcome.QUEUE_FULL:
                text = f"too many requests wait for the tokeniser of model {model!r}"
                raise QueueFull(text, retry_after_seconds=1)
            case SubmitOutcome.RATE_LIMITED:
                raise rate_limited(quota, 0, answer)

    # --- a client's changes -----------------------------------------------------------

    async def cancel(self, job_id: str, account: str) -> str:
        """Cancel a job; may be repeated.

        Returns:
            `cancelling` while its worker still has it, else the terminal status that it has.

        Raises:
            JobNotFound, JobGone: As `get`.
        """
        named = args.CancelArgs(job_id, account)
        answer: bytes = await self._scripts.call("cancel", *named, *self._retention)
        if answer == b"missing":
            await self.get(job_id, account)
            raise JobNotFound(f"job {job_id} not found")
        return answer.decode()

    async def delete(self, job_id: str, account: str) -> None:
        """Erase a finished job.

        Raises:
            JobConflict: It is not finished.
            JobNotFound, JobGone: As `get`.
        """
        named = args.DeleteArgs(job_id, account, self._retention.tombstone_ms)
        answer: bytes = await self._scripts.call("delete", *named)
        if answer == b"missing":
            await self.get(job_id, account)
            raise JobNotFound(f"job {job_id} not found")
        if answer != b"deleted":
            raise JobConflict(f"job {job_id} is {answer.decode()}: cancel it before deleting it")

    async def watch(self, job_id: str, account: str, watcher: str) -> tuple[Status, int]:
        """Publish a job's further events to a watcher.

        Args:
            job_id: The job.
            account: Its account.
            watcher: The id of an API process's event hub.

        Returns:
            The job's status and the seq of its last event.

        Raises:
            JobNotFound, JobGone: As `get`.
        """
        answer = await self._scripts.call("watch", *args.WatchArgs(job_id, account, watcher))
        if not answer:
            await self.get(job_id, account)
            raise JobNotFound(f"job {job_id} not found")
        row = WatchedRow(*answer)
        return Status(row.status.decode()), int(row.seq)

    async def unwatch(self, job_id: str, watcher: str) -> None:
        """Stop publishing a job's events to a watcher."""
        await self._scripts.call("unwatch", *args.UnwatchArgs(job_id, watcher))

    # --- the control process ----------------------------------------------------------

    async def sweep(self, queue: str, limit: int = 500) -> SweepResult:
        """Repair one queue once: at most `limit` jobs of each kind of damage."""
        named = args.SweepArgs(
            queue=queue,
            limit=limit,
            lease_ms=int(self._settings.lease.seconds * 1000),
        )
        answer = await self._scripts.call("sweep", *named, *self._blame_args, *self._retention)
        return SweepResult(*answer[:6])._replace(
            abandoned=[AbandonedAttempt.of(row) for row in answer[6:]]
        )

    async def lock_sweeper(self, name: str, seconds: int) -> bool:
        """Take or keep the sweeper's lock; False when another control process has it."""
        return bool(
            await self._scripts.call("lock_sweeper", *args.LockSweeperArgs(name, seconds * 1000))
        )

    async def purge(self, limit: int = 500) -> int:
        """Remove up to `limit` finished jobs whose retention has passed; returns how many."""
        return int(await self._scripts.call("purge", *args.PurgeArgs(limit)))

    async def lock(self, what: str, name: str, seconds: float) -> bool:
        """Take or keep the lock `what` as `name`; 0 seconds release it.

        Returns:
            False when another name holds it.
        """
        named = args.LockArgs(what, name, int(seconds * 1000))
        return bool(await self._scripts.call("lock", *named))

    async def observe(self, queue: str) -> QueueState:
        """Return the present state of a queue, for metrics."""
        answer = await self._scripts.call("observe", *args.ObserveArgs(queue, LOOK_AT))
        return QueueState.of(answer)
