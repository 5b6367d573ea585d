"""What a worker does to the jobs it claims: steps, ends, requeues and heartbeats.

Invariant: every change names the fence of its attempt; a worker that lost its lease changes
nothing and is told so.
"""

from collections.abc import Sequence
from typing import Any

import orjson

from core.errors import PipelineError
from core.redis.client import guarded
from jobs.blame import Apart, Blame, Occupancy
from jobs.broker.tickets import DEAD_TICKETS_KEPT
from jobs.job import JobSpec
from jobs.store import script_args as args
from jobs.store.job_reader import JobReader
from jobs.store.script_rows import ClaimedRow
from jobs.store.transitions import Appended, Claim, ClaimedJob, Ending, LogAppend

#: A worker that was killed while it loaded its model counts for so long.
LOADING_EXPIRE_MS = 60_000

#: After `worker.load_seconds` without success a host does not count again for so long.
FAILED_LOADS_FORGOTTEN_MS = 24 * 3_600_000

#: A step that does not end its job.
GOES_ON = args.EndingArgs()

HELD = b"held"


class WorkerTransitions(JobReader):
    """The job store as workers use it. Every call may raise StoreUnavailable."""

    @property
    def _blame_args(self) -> args.BlameArgs:
        retry = self._settings.retry
        return args.BlameArgs(retry.max_deaths, retry.max_kills, retry.max_lone_stops)

    async def claim(self, queue: str, worker: str, n: int, weights: str = "") -> list[ClaimedJob]:
        """Take up to `n` jobs of a queue for a worker that runs nothing, in order.

        Args:
            queue: The queue.
            worker: The worker's id.
            n: How many jobs at most.
            weights: The digest of the worker's weights, kept on each job; empty if unknown.

        Returns:
            The jobs, each with a lease of `lease.seconds` and a new fence; none while the queue
            is paused or empty.
        """
        claim = await self.claim_for(queue, worker, n, Occupancy.EMPTY, weights)
        return list(claim.jobs)

    async def claim_for(
        self, queue: str, worker: str, n: int, occupancy: Occupancy, weights: str = ""
    ) -> Claim:
        """Take up to `n` jobs, or one that must run alone.

        Args:
            queue: The queue.
            worker: The worker.
            n: The most jobs.
            occupancy: What the worker runs now.
            weights: As in `claim`.

        Returns:
            The jobs as `claim` returns them, or `held`: what the worker may run at most before it
            gets anything.
        """
        settings = self._settings
        named = args.ClaimArgs(
            queue=queue,
            worker=worker,
            limit=n,
            lease_ms=int(settings.lease.seconds * 1000),
            run_ms=int(settings.limits.run_seconds * 1000),
            ageing_ms=int(settings.queue.ageing_seconds * 1000),
            ageing_every=settings.queue.ageing_every,
            occupancy=occupancy,
            apart_wait_ms=int(settings.queue.apart_wait_seconds * 1000),
            apart_share=settings.queue.apart_share,
            weights=weights,
        )
        answer = await self._scripts.call("claim", *named, *self._retention)
        if answer and answer[0] == HELD:
            return Claim((), held=Occupancy(answer[1].decode()))
        return Claim([_claimed(ClaimedRow(*row)) for row in answer])

    async def append(self, steps: Sequence[LogAppend]) -> list[Appended]:
        """Write one engine step for many jobs in one script call; safe to repeat.

        Returns:
            An answer per step: `ok`, `watched` (send small steps), `cancel` (stop this job),
            `finished`, or `lost` (another attempt has the job; write nothing more).
        """
        parts: list[Any] = []
        for step in steps:
            parts += _step_args(step)
        answers = await self._scripts.call("append", *self._retention, *parts)
        return [answer.decode() for answer in answers]

    async def finish(self, job_id: str, fence: int, ending: Ending) -> bool:
        """End a running job without further events; False when the lease is lost."""
        named = args.FinishArgs(job_id, fence, ending.status, _error_json(ending.error))
        answer: bytes = await self._scripts.call("finish", *named, *self._retention)
        return answer == b"finished"

    async def requeue(
        self,
        job_id: str,
        fence: int,
        error: PipelineError | None,
        *,
        delay_seconds: float = 0.0,
        counted: bool = True,
        blame: Blame = Blame.NONE,
    ) -> str:
        """Give a running job back to its queue.

        Args:
            job_id: The job.
            fence: The attempt that gives it back.
            error: Why; kept on the job when it fails for good.
            delay_seconds: How long it is not claimed again.
            counted: Whether this counts towards `retry.max_attempts`; if not, the job goes to
                the front of its queue.
            blame: What is known about it. After a stop of its worker (`ENGINE`, `UNKNOWN`)
                `error`, `delay_seconds` and `counted` have no effect.

        Returns:
            `queued`, `cancelled`, `failed` (at the cap, or as a poison job) or `lost`.
        """
        named = args.RequeueArgs(
            job_id=job_id,
            fence=fence,
            error_json=_error_json(error),
            delay_ms=int(delay_seconds * 1000),
            counted="1" if counted else "0",
            max_attempts=self._settings.retry.max_attempts,
            blame=blame,
        )
        answer: bytes = await self._scripts.call(
            "requeue", *named, *self._blame_args, *self._retention
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
        """Send one heartbeat for all leases of a worker.

        Args:
            queue: The worker's queue.
            worker: The worker.
            slots: How many jobs it can run at a time.
            description: JSON about the worker, shown to operators.
            held: Job id and fence of each job that it runs.

        Returns:
            The ids of jobs that it has lost.
        """
        lease_ms = int(self._settings.lease.seconds * 1000)
        named = args.RenewArgs(queue, worker, lease_ms, slots, description)
        pairs = [part for job_id, fence in held for part in (job_id, fence)]
        lost = await self._scripts.call("renew", *named, *pairs)
        return [job_id.decode() for job_id in lost]

    async def loading(self, queue: str, worker: str, host: str) -> bool:
        """Say that a worker loads its model; KEDA counts it for the next `LOADING_EXPIRE_MS`.

        Args:
            queue: The queue that the worker will serve.
            worker: The worker.
            host: Its host: the loads of one host count together for `worker.load_seconds`.

        Returns:
            Whether it counts.
        """
        limit_ms = int(self._settings.worker.load_seconds * 1000)
        named = args.LoadingArgs(
            queue, worker, host, limit_ms, LOADING_EXPIRE_MS, FAILED_LOADS_FORGOTTEN_MS
        )
        return bool(await self._scripts.call("loading", *named))

    async def end_loading(self, queue: str, worker: str, host: str, *, loaded: bool) -> None:
        """Say that a worker does not load its model any more.

        Args:
            queue: The queue that the worker serves.
            worker: The worker.
            host: Its host.
            loaded: Whether it succeeded: the loads of its host then count anew.
        """
        async with guarded():
            await self._read.zrem(self.keys.loading(queue), worker)
            if loaded:
                await self._read.delete(self.keys.load_began(queue, host))

    async def dead_letter_ticket(self, raw: bytes | str) -> None:
        """Keep a Celery message that is no ticket for an operator; the list is bounded."""
        async with guarded():
            await self._read.lpush(self.keys.dead_tickets, raw)
            await self._read.ltrim(self.keys.dead_tickets, 0, DEAD_TICKETS_KEPT - 1)


def _error_json(error: PipelineError | None) -> bytes:
    return orjson.dumps(error.as_dict()) if error else b""


def _step_args(step: LogAppend) -> list[Any]:
    named = args.StepArgs(
        job_id=step.id,
        fence=step.fence,
        after=step.after,
        input_tokens=step.input_tokens,
        cached_input_tokens=step.cached_input_tokens,
        output_tokens=step.output_tokens,
        vectors=step.vectors,
        event_count=len(step.events),
    )
    events = [part for event in step.events for part in event]
    ending = step.ending
    end = args.EndingArgs(ending.status, _error_json(ending.error)) if ending else GOES_ON
    return [*named, *events, *end]


def _claimed(row: ClaimedRow) -> ClaimedJob:
    return ClaimedJob(
        id=row.id.decode(),
        fence=int(row.fence),
        attempt=int(row.attempt),
        spec=JobSpec.decode(row.spec, row.body),
        seq=int(row.seq),
        output_tokens=int(row.output_tokens),
        input_tokens=int(row.input_tokens) if row.input_tokens else None,
        watched=row.watched == b"1",
        run_deadline=int(row.run_deadline),
        now=int(row.now),
        account=row.account.decode(),
        created=int(row.created),
        queued=int(row.queued),
        apart=Apart(row.apart.decode()),
    )
