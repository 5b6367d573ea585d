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
from tests.support.jobs import QUEUE, complete, dead_letters, submission, write

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
    return ["held", claim.held] if claim.held else [job.id for job in claim.jobs]


async def field(store: JobStore, job: ClaimedJob, name: str) -> str:
    """Return a field of the job's record."""
    found = await store._read.hget(store.keys.job(job.id), name)
    return found.decode() if found else ""


async def claim_alone(store: JobStore, job: ClaimedJob, worker: str = "w3") -> ClaimedJob:
    (alone,) = await store.claim(QUEUE, worker, 8)
    assert alone.id == job.id
    return alone


async def test_a_job_that_gave_output_is_given_back_uncounted_and_not_suspected(
    store: JobStore,
) -> None:
    decoding, starting = await running(store, 2)
    await write(store, decoding, decoding.seq, [1])
    await stop_silently(store, decoding, starting)
    assert await field(store, decoding, "apart") == Apart.NONE
    assert await field(store, starting, "apart") == Apart.START
    assert await claim_for(store, BUSY) == [decoding.id]
    alone = await claim_alone(store, starting)
    assert (alone.attempt, alone.apart) == (1, Apart.START)
    for job in (decoding, starting):
        record = await store.get(job.id, "acme")
        assert (record.failures, record.attempt) == (0, 1)


@pytest.mark.parametrize("blame", [Blame.ENGINE, Blame.UNKNOWN])
async def test_output_clears_a_suspected_job_of_every_stop_before(
    store: JobStore, blame: Blame
) -> None:
    (job,) = await running(store, 1)
    for stops in range(1, 3):
        await store.requeue(job.id, job.fence, None, blame=blame)
        job = await claim_alone(store, job)
        await store.requeue(job.id, job.fence, None, blame=blame)
        assert int(await field(store, job, "kills")) == (blame is Blame.ENGINE)
        job = await claim_alone(store, job)
        await write(store, job, job.seq, [1], output_tokens=job.output_tokens + 1)
        assert await store.requeue(job.id, job.fence, None, blame=blame) == "queued"
        marks = [await field(store, job, name) for name in ("apart", "deaths", "kills", "losses")]
        assert marks == ["", str(stops), "0", "0"]
        job = await claim_alone(store, job)


async def test_two_failures_of_the_engine_alone_make_a_job_poison(store: JobStore) -> None:
    poison, other = await running(store, 2)
    for job in (poison, other):
        assert await store.requeue(job.id, job.fence, None, blame=Blame.ENGINE) == "queued"
    while (await store.get(poison.id, "acme")).status is Status.QUEUED:
        (alone,) = await store.claim(QUEUE, "w1", 8)
        if alone.id == other.id:
            await complete(store, alone)
        else:
            await store.requeue(alone.id, alone.fence, None, blame=Blame.ENGINE)
    record = await store.get(poison.id, "acme")
    assert (record.status, record.fence) == (Status.FAILED, 3)
    assert record.error is not None
    assert record.error["code"] == PoisonJob.code
    assert [job.id for job in await dead_letters(store, "acme")] == [poison.id]
    assert (await store.get(other.id, "acme")).status is Status.COMPLETED
    totals = (await read_store(store)).ended
    assert (totals["suspected"], totals["given_back"], totals["poisoned"]) == (4, 3, 1)
    await check_jobs(store, [poison.id, other.id])
    await check_nothing_left(store, QUEUE)


async def test_stops_of_unknown_cause_convict_only_when_chance_cannot_explain_them(
    store: JobStore,
) -> None:
    (job,) = await running(store, 1)
    await stop_silently(store, job)
    for _ in range(4):
        job = await claim_alone(store, job)
        await stop_silently(store, job)
        assert (await store.get(job.id, "acme")).status is Status.QUEUED
    job = await claim_alone(store, job)
    await stop_silently(store, job)
    record = await store.get(job.id, "acme")
    assert record.error is not None
    assert record.error["code"] == PoisonJob.code
    await check_jobs(store, [job.id])
    await check_nothing_left(store, QUEUE)


@pytest.mark.settings(queue__apart_wait_seconds=0)
async def test_a_stop_convicts_no_job_that_ran_beside_others(store: JobStore) -> None:
    (job,) = await running(store, 1)
    await store.requeue(job.id, job.fence, None, blame=Blame.ENGINE)
    joined = (await store.claim_for(QUEUE, "w1", 8, BEGUN)).jobs[0]
    await store.requeue(job.id, joined.fence, None, blame=Blame.ENGINE)
    assert (await field(store, job, "kills"), await field(store, job, "apart")) == ("0", "alone")
    assert await claim_for(store, BEGUN) == ["held", EMPTY], "now it must be alone"
    assert (await claim_alone(store, job, "w2")).apart is Apart.ALONE


async def test_a_lost_lease_of_a_worker_that_lives_is_held_against_no_job(
    store: JobStore,
) -> None:
    (job,) = await running(store, 1)
    await store.renew(QUEUE, "w1", 8, b"{}", [])  # the answer to its claim was lost
    await stop_silently(store, job)
    assert await field(store, job, "apart") == Apart.NONE
    assert await claim_for(store, BUSY) == [job.id]


async def test_a_job_present_at_three_stops_runs_alone_to_its_end(store: JobStore) -> None:
    job, other = await running(store, 2)
    await complete(store, other)
    for _ in range(3):
        await write(store, job, job.seq, [1], output_tokens=job.output_tokens + 1)
        assert await store.requeue(job.id, job.fence, None, blame=Blame.ENGINE) == "queued"
        job = await claim_alone(store, job)
    assert job.apart is Apart.WHOLE
    for ends in ("queued", "failed"):
        await write(store, job, job.seq, [1], output_tokens=job.output_tokens + 1)
        assert await store.requeue(job.id, job.fence, None, blame=Blame.ENGINE) == ends
        if ends == "queued":
            job = await claim_alone(store, job)
    await check_nothing_left(store, QUEUE)


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
    assert await claim_for(store, BUSY) == ["held", BEGUN]
    other = await store.claim_for(QUEUE, "w9", 1, BUSY)
    assert len(other.jobs) == 1, "only one worker waits for the suspected job"
    assert await claim_for(store, BEGUN) == [suspect.id]


@pytest.mark.settings(queue__apart_wait_seconds=0)
async def test_suspected_jobs_and_others_take_turns(store: JobStore) -> None:
    suspects = {job.id: job for job in await running(store, 3)}
    await stop_silently(store, *suspects.values())
    for _ in range(2):
        await store.submit(submission())
    suspected = []
    for _ in range(5):
        (claimed,) = (await store.claim_for(QUEUE, "w2", 1, BEGUN)).jobs
        suspected.append(claimed.id in suspects)
        await write(store, claimed, claimed.seq, [1])
    assert suspected == [True, False, True, False, True]


@pytest.mark.parametrize(("workers", "most"), [(1, 1), (7, 1), (8, 2)])
async def test_suspected_jobs_get_a_share_of_the_workers_and_the_others_go_on(
    store: JobStore, workers: int, most: int
) -> None:
    suspects = await running(store, 4)
    await stop_silently(store, *suspects)
    for number in range(workers):
        await store.renew(QUEUE, f"w{number}", 8, b"{}", [])
    plain = {(await store.submit(submission())).id for _ in range(8)}
    claimed = []
    for number in range(12):
        claimed += await store.claim(QUEUE, f"w{number}", 1)
    others = [job.id for job in claimed if job.id in plain]
    assert len(others) == len(plain), "a used share keeps no other job waiting"
    assert len(claimed) - len(others) == most


async def test_the_least_suspected_job_is_next(store: JobStore) -> None:
    first, second = await running(store, 2)
    await stop_silently(store, first)
    await stop_silently(store, second)
    first = await claim_alone(store, first)
    await stop_silently(store, first)
    assert (await claim_alone(store, second)).id == second.id


async def test_a_suspected_job_can_be_cancelled_and_purged(store: JobStore) -> None:
    first, second = await running(store, 2)
    await stop_silently(store, first, second)
    assert await store.cancel(first.id, "acme") == "cancelled"
    assert (await store.observe(QUEUE)).apart == 1
    assert (await store.control.purge(QUEUE)).cancelled == 1
    await check_jobs(store, [first.id, second.id])
    await check_nothing_left(store, QUEUE)
