"""One job that stops each worker that runs it, or fails always, among jobs of other accounts."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from core.errors import TooManyFailures
from jobs.blame import Blame, Occupancy
from jobs.events import Event
from jobs.result import fold
from jobs.store.job_store import JobStore
from jobs.store.transitions import Submission
from jobs.stream.event_hub import EventHub
from tests.support.following import follow_all, run_jobs
from tests.support.invariants import check_jobs, check_nothing_left
from tests.support.machine import bound
from tests.support.processes import Pipeline, PipelineProcess, pipeline
from tests.support.redis_server import RedisServer
from tests.support.simulated import MODEL, check_text, client, generation, simulated_settings

ACCOUNTS = [f"account-{number}" for number in range(10)]
JOBS = 500
PER_SECOND = 40
#: The poison comes after so many jobs; those before it show what is usual.
BEFORE = 150
#: First tokens faster than this are not compared: a busy machine has such pauses by itself.
USUAL_SECONDS = 0.5


@dataclass
class Followed:
    """What a client saw of its job."""

    job: Submission
    sent_at: float
    first_token_at: float = 0.0
    events: list[Event] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How long its first token took."""
        return self.first_token_at - self.sent_at


async def send(store: JobStore, hub: EventHub, job: Submission) -> Followed:
    """Submit a job and follow it to its end."""
    seen = Followed(job, time.monotonic())
    while True:
        try:
            await store.submit(job)
        except TooManyFailures as slowed:  # the account of the poison, for a moment
            await asyncio.sleep(slowed.retry_after_seconds)
        else:
            break
    async for batch in hub.follow(job.id, job.account, 0):
        seen.events += batch
        if not seen.first_token_at and any(event.type == "delta" for event in batch):
            seen.first_token_at = time.monotonic()
    return seen


async def send_all(store: JobStore, hub: EventHub, jobs: Sequence[Submission]) -> list[Followed]:
    """Send jobs at an even pace."""
    sending = []
    began = time.monotonic()
    for number, job in enumerate(jobs):
        await asyncio.sleep(began + number / PER_SECOND - time.monotonic())
        sending.append(asyncio.create_task(send(store, hub, job)))
    return list(await asyncio.gather(*sending))


async def keep_workers(running: Pipeline, workers: list[PipelineProcess]) -> None:
    """Replace each worker that ends, as an orchestrator does."""
    while True:
        for process in [one for one in workers if one.exit_code is not None]:
            workers.remove(process)
            workers.append(running.begin_worker())
        await asyncio.sleep(0.1)


def p95(seen: Sequence[Followed]) -> float:
    return sorted(one.seconds for one in seen)[len(seen) * 95 // 100]


@pytest.mark.timeout(180)
@pytest.mark.parametrize("kind", ["exit", "segv", "die", "hang", "stall", "error"])
async def test_one_poison_job_among_500_fails_and_hurts_no_other(
    redis_server: RedisServer, tmp_path: Path, kind: str
) -> None:
    # Short only where it is needed: on a busy machine a healthy engine may be silent for a while.
    worker = {"hang_seconds": 3.0} if kind in {"hang", "stall"} else {}
    retry = {"base_seconds": 0.1, "max_lone_stops": 3}
    settings = simulated_settings(redis_server, slots=16, worker=worker, retry=retry)
    poison = generation(f"[[fault:{kind}=0]]", account=ACCOUNTS[0])
    jobs = [generation(f"job {i}", 10 + i % 30, ACCOUNTS[i % 10]) for i in range(JOBS)]
    with pipeline(settings, tmp_path) as running:
        running.control()
        workers = [running.worker(), running.worker()]
        async with client(settings) as (store, hub):
            keeping = asyncio.create_task(keep_workers(running, workers))
            seen = await send_all(store, hub, [*jobs[:BEFORE], poison, *jobs[BEFORE:]])
            keeping.cancel()
            caught = seen.pop(BEFORE)
            check_text(jobs, [fold(one.events) for one in seen])
            error = fold(caught.events).error
            assert error is not None
            assert error["code"] == ("engine-error" if kind == "error" else "poison-job")
            for job in jobs:
                record = await store.get(job.id, job.account)
                assert (record.failures, record.attempt) == (0, 1)
            usual = max(p95(seen[:BEFORE]), bound(USUAL_SECONDS))
            assert p95(seen[BEFORE:]) <= 2 * usual
            for account in ACCOUNTS:
                own = [job.id for job in [*jobs, poison] if job.account == account]
                await check_jobs(store, own, account)
            await check_nothing_left(store, MODEL)


async def test_failing_jobs_of_one_account_do_not_open_the_breaker(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    retry = {"base_seconds": 0.05, "cap_seconds": 0.1}
    breaker = {"failures": 3, "cooldown_seconds": 300}
    settings = simulated_settings(redis_server, slots=8, retry=retry, breaker=breaker)
    with pipeline(settings, tmp_path) as running:
        running.control()
        worker = running.worker()
        async with client(settings) as (store, hub):
            bad = [generation("[[fault:error=0]]", account="bad") for _ in range(15)]
            failed = await run_jobs(store, hub, bad, timeout=60)
            assert [result.status for result in failed] == ["failed"] * len(bad)
            more = [generation("[[fault:error=0]]", account="bad") for _ in range(15)]
            failing = asyncio.create_task(run_jobs(store, hub, more, timeout=60))
            good = [generation(f"job {i}", account="good") for i in range(40)]
            for job in good:
                check_text([job], await run_jobs(store, hub, [job], timeout=5))
            assert [result.status for result in await failing] == ["failed"] * len(bad)
            assert "breaker_probes" in worker.output(), "the engine was asked instead"
            await check_jobs(store, [job.id for job in bad], "bad")
            await check_nothing_left(store, MODEL)


async def test_a_job_that_must_be_alone_does_not_wait_for_long_jobs_to_end(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    worker = {"drain_seconds": 0.2}
    settings = simulated_settings(redis_server, worker=worker, queue={"apart_wait_seconds": 0})
    suspect, long = generation("suspect"), generation("long", tokens=3000)
    with pipeline(settings, tmp_path) as running:
        async with client(settings) as (store, hub):
            await store.submit(suspect)
            (claimed,) = await store.claim(MODEL, "w1", 1)
            await store.requeue(claimed.id, claimed.fence, None, blame=Blame.ENGINE)
            (claimed,) = (await store.claim_for(MODEL, "w2", 1, Occupancy.BEGUN)).jobs
            await store.requeue(claimed.id, claimed.fence, None, blame=Blame.ENGINE)
            await store.submit(long)  # it is the others' turn, so it is claimed first
            running.control()
            running.worker()
            check_text([suspect, long], await follow_all(hub, [suspect, long], 60))
            first = await store.get(suspect.id, suspect.account)
            last = await store.get(long.id, long.account)
            assert first.finished < last.finished
            assert (last.failures, last.fence) == (0, 2), "it made way, and went on"
            await check_nothing_left(store, MODEL)
