"""A fleet of workers without processes on a real store: some jobs stop workers, so does chance.

It knows who stopped which worker and what ran there, which the store must find out.
Invariant: a history depends on the random numbers alone.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Any

from jobs.blame import Apart, Blame, Occupancy
from jobs.status import Status
from jobs.store.job_store import JobStore
from jobs.store.transitions import ClaimedJob, Ending, LogAppend
from tests.support.jobs import QUEUE, delta, submission

ROOM = 4
#: How often a worker is killed, drained or frozen, or loses the answer to a claim, per turn.
KILLED, DRAINED, LOST = 0.02, 0.04, 0.06


@dataclass(frozen=True)
class Guilt:
    """A job that stops its worker after some tokens of each attempt, and how that looks."""

    blame: Blame
    after: int


@dataclass
class Run:
    """One job on one worker."""

    claimed: ClaimedJob
    seq: int
    output: int
    made: int = 0

    @property
    def needs_worker(self) -> bool:
        apart = self.claimed.apart
        return apart is Apart.WHOLE or (apart is not Apart.NONE and not self.made)


@dataclass
class Stop:
    """What is true about one stop of a worker, as one of its jobs saw it."""

    blame: Blame
    others: int


@dataclass
class Worker:
    """A worker, until it stops."""

    name: str
    runs: dict[str, Run] = field(default_factory=dict)

    @property
    def occupancy(self) -> Occupancy:
        if not self.runs:
            return Occupancy.EMPTY
        return Occupancy.BEGUN if all(run.made for run in self.runs.values()) else Occupancy.BUSY


class Fleet:
    """Workers and jobs; `turn` lets one worker do or suffer one thing."""

    def __init__(self, store: JobStore, random: Random, workers: int) -> None:
        self.store = store
        self.random = random
        self.workers = [Worker(f"w{number}") for number in range(workers)]
        self.named = workers
        self.jobs: dict[str, int] = {}  # and how many tokens each wants
        self.guilty: dict[str, Guilt] = {}
        self.stops: dict[str, list[Stop]] = {}
        self.ended: set[str] = set()

    async def submit(self, account: str, guilt: Guilt | None = None) -> None:
        """Submit a job that is innocent, or not."""
        job = submission(account)
        await self.store.submit(job)
        self.jobs[job.id] = self.random.randrange(4, 12) if guilt is None else 200
        self.stops[job.id] = []
        if guilt is not None:
            self.guilty[job.id] = guilt

    async def turn(self) -> None:
        """Let one worker do or suffer one thing."""
        worker = self.random.choice(self.workers)
        await self.store.renew(QUEUE, worker.name, ROOM, b"{}", [])
        chance = self.random.random()
        if chance < KILLED:
            await self._stop(worker, Blame.UNKNOWN)
        elif chance < DRAINED:
            await self._hand_over(worker)
        else:
            await self._claim(worker, lost=chance < LOST)
            await self._step(worker)
        await self.store.sweep(QUEUE)

    async def _claim(self, worker: Worker, *, lost: bool) -> None:
        room = ROOM - len(worker.runs)
        if room <= 0 or any(run.needs_worker for run in worker.runs.values()):
            return
        claim = await self.store.claim_for(QUEUE, worker.name, room, worker.occupancy)
        if claim.held is Occupancy.EMPTY:
            await self._hand_over(worker)
        if lost:
            await self._pass_leases(*(job.id for job in claim.jobs))
            return
        for job in claim.jobs:
            self._check_place(worker, job)
            worker.runs[job.id] = Run(job, job.seq, job.output_tokens)
        apart = [w for w in self.workers if any(run.needs_worker for run in w.runs.values())]
        assert len(apart) <= max(1, len(self.workers) // 4), "too many run apart"

    def _check_place(self, worker: Worker, job: ClaimedJob) -> None:
        if job.apart in {Apart.ALONE, Apart.WHOLE}:
            assert not worker.runs, "it must be alone"
        if job.apart is Apart.START:
            assert all(run.made for run in worker.runs.values())

    async def _step(self, worker: Worker) -> None:
        """Give each job a token, unless one of them stops the worker."""
        for job_id, run in list(worker.runs.items()):
            guilt = self.guilty.get(job_id)
            if guilt is not None and run.made >= guilt.after:
                await self._stop(worker, guilt.blame)
                return
            run.output += 1
            run.made += 1
            done = Ending(Status.COMPLETED) if run.output >= self.jobs[job_id] else None
            events = [("delta", delta([run.output]))]
            fence = run.claimed.fence
            step = LogAppend(job_id, fence, run.seq, events, 3, 0, run.output, done)
            (answer,) = await self.store.append([step])
            assert answer == ("finished" if done else "ok")
            run.seq += 1
            if done:
                self.ended.add(job_id)
                del worker.runs[job_id]

    async def _hand_over(self, worker: Worker) -> None:
        runs, worker.runs = worker.runs, {}
        for run in runs.values():
            await self.store.requeue(run.claimed.id, run.claimed.fence, None, counted=False)

    async def _stop(self, worker: Worker, blame: Blame) -> None:
        """End a worker; another one takes its place."""
        for job_id in worker.runs:
            self.stops[job_id].append(Stop(blame, len(worker.runs) - 1))
        redis: Any = self.store.redis
        await redis.zadd(self.store.keys.part(QUEUE, "workers"), {worker.name: 1}, xx=True)
        if blame is Blame.UNKNOWN:
            await self._pass_leases(*worker.runs)
        else:
            for run in worker.runs.values():
                await self.store.requeue(run.claimed.id, run.claimed.fence, None, blame=blame)
        for job_id in worker.runs:
            if (await self.store.get(job_id, await self._account(job_id))).status.is_terminal:
                self.ended.add(job_id)
        self.workers[self.workers.index(worker)] = Worker(f"w{self.named}")
        self.named += 1

    async def _account(self, job_id: str) -> str:
        redis: Any = self.store.redis
        return str((await redis.hget(self.store.keys.job(job_id), "account")).decode())

    async def _pass_leases(self, *ids: str) -> None:
        if ids:
            await self.store.redis.zadd(
                self.store.keys.running(QUEUE), dict.fromkeys(ids, 1), xx=True
            )
            await self.store.sweep(QUEUE)
