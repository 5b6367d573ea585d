"""What a stopped worker means for the jobs it ran: who is suspected, who runs alone, who fails."""

import pytest

from core.errors import EngineError, PoisonJob
from core.settings.tree import Settings
from jobs.blame import Apart, Blame, Occupancy
from jobs.status import Status
from jobs.store.job_store import JobStore
from jobs.store.metrics_collector import read_store
from jobs.store.transitions import ClaimedJob
from tests.support.invariants import check_jobs, check_nothing_left
from tests.support.jobs import QUEUE, complete, submission, write

BUSY, BEGUN, EMPTY = Occupancy.BUSY, Occupancy.BEGUN, Occupancy.EMPTY


async def running(store: JobStore, count: int, **fields: object) -> list[ClaimedJob]:
    """Submit and claim jobs together, as one worker."""
    for _ in range(count):
        await store.submit(submission(**fields))
    return await store.claim(QUEUE, "w1", count)


async def stop_silently(store: JobStore, *jobs: ClaimedJob) -> None:
    """Let the leases run out, as if the worker was killed, and sweep."""
    await store.redis.zadd(store.keys.running(QUEUE), {job.id: 1 for job in jobs})
    assert (await store.sweep(QUEUE)).stalled == len(jobs)


async def claim_for(store: JobStore, occupancy: Occupancy, n: int = 8) -> list[str]:
    claim = await store.claim_for(QUEUE, "w2", n, occupancy)
    return ["held"] if claim.held else [job.id for job in claim.jobs]


async def field(store: JobStore, job: ClaimedJob, name: str) -> str:
    """Return a field of the job's record."""
    found = await store._read.hget(store.keys.job(job.id), name)
    return found.decode() if found else ""


async def test_a_job_that_gave_output_is_given_back_uncounted_and_not_suspected(
    store: JobStore,
) -> None:
    decoding, starting = await running(store, 2)
    await write(store, decoding, decoding.seq, [1])
    await stop_silently(store, decoding, starting)
    assert await field(store, decoding, "apart") == Apart.NONE
    assert await field(store, starting, "apart") == Apart.START
    assert await claim_for(store, BUSY) == [decoding.id]
    (alone,) = await store.claim(QUEUE, "w3", 8)
    assert (alone.id, alone.attempt, alone.apart) == (starting.id, 1, Apart.START)
    for job in (decoding, starting):
        record = await store.get(job.id, "acme")
        assert (record.failures, record.attempt) == (0, 1)


async def test_a_suspected_job_is_cleared_by_its_first_output(store: JobStore) -> None:
    (job,) = await running(store, 1)
    for _ in range(2):
        await stop_silently(store, job)
        assert await field(store, job, "kills") == "1"
        (job,) = await store.claim(QUEUE, "w1", 1)
        await write(store, job, job.seq, [1], output_tokens=job.output_tokens + 1)
    await stop_silently(store, job)
    assert await field(store, job, "apart") == Apart.WHOLE, "it was present at three stops"
    assert (await store.get(job.id, "acme")).status is Status.QUEUED


@pytest.mark.parametrize("silently", [True, False])
async def test_a_job_that_stops_a_second_worker_alone_is_poison(
    store: JobStore, silently: bool
) -> None:
    poison, other = await running(store, 2)
    for job in (poison, other):
        assert await store.requeue(job.id, job.fence, None, blame=Blame.SUSPECT) == "queued"
    for job_id in sorted((poison.id, other.id)):
        (alone,) = await store.claim(QUEUE, "w1", 8)
        assert alone.id == job_id, "each alone, though both wait"
        if alone.id == other.id:
            await complete(store, alone)
        elif silently:
            await stop_silently(store, alone)
        else:
            ended = await store.requeue(alone.id, alone.fence, None, blame=Blame.SUSPECT)
            assert ended == "failed"
    record = await store.get(poison.id, "acme")
    assert record.status is Status.FAILED
    assert record.error is not None
    assert record.error["code"] == PoisonJob.code
    assert [job.id for job in await store.list_dead("acme", limit=5)] == [poison.id]
    assert (await store.get(other.id, "acme")).status is Status.COMPLETED
    totals = (await read_store(store)).ended
    assert (totals["suspected"], totals["given_back"], totals["poisoned"]) == (3, 2, 1)
    await check_jobs(store, [poison.id, other.id])
    await check_nothing_left(store, QUEUE)


async def test_a_job_present_at_three_stops_runs_alone_to_its_end(store: JobStore) -> None:
    job, other = await running(store, 2)
    await complete(store, other)
    for _ in range(3):
        assert await store.requeue(job.id, job.fence, None, blame=Blame.PRESENT) == "queued"
        (job,) = await store.claim(QUEUE, "w1", 1)
    assert job.apart is Apart.WHOLE
    await write(store, job, job.seq, [1])
    assert await store.requeue(job.id, job.fence, None, blame=Blame.PRESENT) == "queued"
    (job,) = await store.claim(QUEUE, "w1", 1)
    await write(store, job, job.seq, [2], output_tokens=2)
    assert await store.requeue(job.id, job.fence, None, blame=Blame.PRESENT) == "failed"


async def test_an_unknown_failure_is_repeated_alone(store: JobStore) -> None:
    (job,) = await running(store, 1)
    await store.requeue(job.id, job.fence, EngineError("boom"), delay_seconds=60, blame=Blame.ALONE)
    assert await store.claim(QUEUE, "w1", 1) == []
    await store.redis.zadd(store.keys.part(QUEUE, "delayed"), {job.id: 1})
    await store.sweep(QUEUE)
    assert await claim_for(store, BUSY) == []
    (again,) = await store.claim(QUEUE, "w1", 1)
    assert (again.attempt, again.apart) == (2, Apart.START)


@pytest.mark.settings(queue__apart_wait_seconds=0)
async def test_an_overdue_suspect_stops_one_worker_from_claiming_and_no_other(
    store: JobStore, settings: Settings
) -> None:
    assert settings.queue.apart_wait_seconds == 0
    (suspect,) = await running(store, 1)
    await stop_silently(store, suspect)
    await store.submit(submission())
    assert await claim_for(store, BUSY) == ["held"]
    other = await store.claim_for(QUEUE, "w9", 1, BUSY)
    assert len(other.jobs) == 1, "only one worker waits for the suspected job"
    assert await claim_for(store, BEGUN) == [suspect.id]


@pytest.mark.settings(queue__apart_wait_seconds=0)
async def test_suspected_jobs_and_others_take_turns(store: JobStore) -> None:
    suspects = await running(store, 3)
    await stop_silently(store, *suspects)
    for _ in range(2):
        await store.submit(submission())
    order = [await claim_for(store, BEGUN, 1) for _ in range(5)]
    suspected = [job_id in {job.id for job in suspects} for (job_id,) in order]
    assert suspected == [True, False, True, False, True]


async def test_a_suspected_job_can_be_cancelled_and_purged(store: JobStore) -> None:
    first, second = await running(store, 2)
    await stop_silently(store, first, second)
    assert await store.cancel(first.id, "acme") == "cancelled"
    assert (await store.observe(QUEUE)).apart == 1
    assert (await store.control.purge(QUEUE)).cancelled == 1
    await check_jobs(store, [first.id, second.id])
    await check_nothing_left(store, QUEUE)
