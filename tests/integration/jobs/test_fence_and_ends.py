"""Transitions of a running job: append, fence, finish, requeue, cancel, sweep."""

import pytest

from core.errors import EngineError, JobConflict, JobGone
from core.settings.tree import Settings
from jobs.status import Status, may_follow
from jobs.store.job_store import JobStore
from jobs.store.store_factory import open_store
from jobs.store.transitions import ClaimedJob, Ending
from jobs.store.usage_outbox import Outbox, UsageEntry
from tests.conftest import settings_for
from tests.support.invariants import check_jobs, check_nothing_left
from tests.support.jobs import QUEUE, complete, dead_letters, submission, write
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually


async def running(store: JobStore, **fields: object) -> ClaimedJob:
    """Submit and claim one job."""
    await store.submit(submission(**fields))
    return (await store.claim(QUEUE, "w1", 1))[0]


async def expire_lease(store: JobStore, job: ClaimedJob) -> None:
    """Let the lease run out now."""
    await store.redis.zadd(store.keys.running(QUEUE), {job.id: 1})


async def test_a_repeated_append_is_written_once(store: JobStore) -> None:
    job = await running(store)
    for _ in range(3):
        assert await write(store, job, job.seq, [1, 2]) == "ok"
    assert await write(store, job, job.seq + 1, [3], output_tokens=3) == "ok"
    assert [event.seq for event in await store.read_log(job.id, 0)] == [1, 2, 3]


async def test_an_append_that_skips_ahead_is_refused(store: JobStore) -> None:
    job = await running(store)
    assert await write(store, job, job.seq + 5, [1]) == "lost"
    assert len(await store.read_log(job.id, 0)) == 1


async def test_a_stale_worker_cannot_write_end_or_return_the_job(store: JobStore) -> None:
    stale = await running(store)
    await write(store, stale, stale.seq, [1])
    await expire_lease(store, stale)
    assert (await store.sweep(QUEUE)).stalled == 1
    fresh = (await store.claim(QUEUE, "w2", 1))[0]
    assert (fresh.id, fresh.fence, fresh.attempt) == (stale.id, 2, 1)
    assert await write(store, stale, stale.seq + 1, [2]) == "lost"
    assert not await store.finish(stale.id, stale.fence, Ending(Status.FAILED))
    assert await store.requeue(stale.id, stale.fence, None) == "lost"
    assert await store.renew(QUEUE, "w1", 1, b"{}", [(stale.id, stale.fence)]) == [stale.id]
    assert fresh.output_tokens == 1, "the new attempt knows what was delivered"
    await write(store, fresh, fresh.seq, [2], output_tokens=2, ending=Ending(Status.COMPLETED))
    await check_jobs(store, [fresh.id])
    await check_nothing_left(store, QUEUE)


async def test_a_renewed_lease_is_not_swept(store: JobStore) -> None:
    job = await running(store)
    await expire_lease(store, job)
    assert await store.renew(QUEUE, "w1", 1, b"{}", [(job.id, job.fence)]) == []
    assert (await store.sweep(QUEUE)).stalled == 0


async def test_a_terminal_status_never_changes(store: JobStore) -> None:
    job = await running(store)
    await complete(store, job)
    assert await complete(store, job) == "finished", "a repeated end is acknowledged"
    assert await store.cancel(job.id, "acme") == "completed"
    assert await store.requeue(job.id, job.fence, None) == "lost"
    assert await store.finish(job.id, job.fence, Ending(Status.FAILED)), "repeat, not a change"
    assert (await store.get(job.id, "acme")).status is Status.COMPLETED
    await check_jobs(store, [job.id])


async def test_a_failed_attempt_waits_then_competes_again(store: JobStore) -> None:
    job = await running(store)
    assert await store.requeue(job.id, job.fence, EngineError("x"), delay_seconds=0.05) == "queued"
    assert await store.claim(QUEUE, "w1", 1) == []

    async def released() -> bool:
        return (await store.sweep(QUEUE)).released == 1

    await eventually(released)
    again = (await store.claim(QUEUE, "w1", 1))[0]
    assert (again.id, again.attempt) == (job.id, 2)


async def test_the_attempt_cap_leads_to_the_dead_letters(
    store: JobStore, settings: Settings
) -> None:
    job = await running(store)
    for attempt in range(1, settings.retry.max_attempts):
        assert await store.requeue(job.id, job.fence, EngineError("boom")) == "queued"
        job = (await store.claim(QUEUE, "w1", 1))[0]
        assert job.attempt == attempt + 1
    assert await store.requeue(job.id, job.fence, EngineError("boom")) == "failed"
    dead = await dead_letters(store, "acme")
    assert [item.id for item in dead] == [job.id]
    assert dead[0].error is not None
    assert dead[0].error["message"] == "boom"
    assert await dead_letters(store, "other") == []
    await check_jobs(store, [job.id])
    await check_nothing_left(store, QUEUE)


async def test_a_drained_job_goes_to_the_front_and_no_attempt_is_counted(store: JobStore) -> None:
    job = await running(store)
    for _ in range(5):
        await store.submit(submission("other"))
    await write(store, job, job.seq, [1, 2, 3])
    assert await store.requeue(job.id, job.fence, None, counted=False) == "queued"
    again = (await store.claim(QUEUE, "w2", 1))[0]
    assert (again.id, again.attempt, again.fence) == (job.id, 1, 2)
    assert again.output_tokens == 3


async def test_cancelling_a_waiting_job_ends_it_at_once(store: JobStore) -> None:
    accepted = await store.submit(submission())
    assert await store.cancel(accepted.id, "acme") == "cancelled"
    assert await store.cancel(accepted.id, "acme") == "cancelled"
    assert await store.claim(QUEUE, "w1", 1) == [], "its ticket finds nothing"
    await check_jobs(store, [accepted.id])
    await check_nothing_left(store, QUEUE)


async def test_cancelling_a_running_job_reaches_its_worker_by_the_next_append(
    store: JobStore,
) -> None:
    job = await running(store)
    assert await store.cancel(job.id, "acme") == "cancelling"
    assert await write(store, job, job.seq, [1]) == "cancel"
    await write(store, job, job.seq + 1, [], output_tokens=1, ending=Ending(Status.CANCELLED))
    assert (await store.get(job.id, "acme")).output_tokens == 1
    await check_jobs(store, [job.id])


async def test_a_cancel_survives_the_death_of_the_worker(store: JobStore) -> None:
    job = await running(store)
    await store.cancel(job.id, "acme")
    await expire_lease(store, job)
    await store.sweep(QUEUE)
    assert (await store.get(job.id, "acme")).status is Status.CANCELLED
    await check_jobs(store, [job.id])
    await check_nothing_left(store, QUEUE)


async def test_cancelling_delayed_and_parked_jobs_leaves_nothing(store: JobStore) -> None:
    ids = [(await store.submit(submission(max_running=1))).id for _ in range(3)]
    first = (await store.claim(QUEUE, "w1", 3))[0]
    await store.requeue(first.id, first.fence, EngineError("x"), delay_seconds=60)
    for job_id in ids:
        assert await store.cancel(job_id, "acme") == "cancelled"
    await check_jobs(store, ids)
    await check_nothing_left(store, QUEUE)


async def test_missing_tickets_are_added_and_surplus_is_harmless(store: JobStore) -> None:
    for _ in range(3):
        await store.submit(submission())
    await store.redis.delete(store.keys.tickets(QUEUE))
    assert (await store.sweep(QUEUE)).tickets == 3
    assert (await store.sweep(QUEUE)).tickets == 0
    assert await store.redis.llen(store.keys.tickets(QUEUE)) == 3


async def test_a_job_that_hangs_past_its_limit_is_ended_by_the_sweeper(
    redis_server: RedisServer,
) -> None:
    store = open_store(settings_for(redis_server))
    job = await running(store)
    await write(store, job, job.seq, [1, 2])
    await store.redis.zadd(store.keys.part(QUEUE, "deadlines"), {job.id: 1})
    assert (await store.sweep(QUEUE)).expired == 1
    ended = await store.get(job.id, "acme")
    assert ended.status is Status.EXPIRED
    assert ended.output_tokens == 2  # it is charged like any other output that was streamed
    assert ended.error is not None
    assert ended.error["code"] == "run-timeout"
    assert await write(store, job, job.seq, [1]) == "lost"
    await check_jobs(store, [job.id])
    await store.close()


@pytest.mark.parametrize("end", ["completed", "cancelled"])
async def test_a_second_attempt_makes_no_usage_worse(store: JobStore, end: str) -> None:
    first = await running(store)
    await write(store, first, first.seq, [1, 2], input_tokens=9, cached_input_tokens=6)
    await store.requeue(first.id, first.fence, None)
    (second,) = await store.claim(QUEUE, "w2", 1)
    if end == "completed":  # its prompt was not in the cache of the second worker
        step = {"output_tokens": 3, "input_tokens": 9}
        await write(store, second, second.seq, [3], **step, ending=Ending(Status.COMPLETED))
    else:  # it was cancelled before the second worker had rendered its prompt
        await store.cancel(second.id, "acme")
        step = {"output_tokens": 2, "input_tokens": 0}
        await write(store, second, second.seq, [], **step, ending=Ending(Status.CANCELLED))
    (entry,) = await Outbox(store.redis, store.keys, "ledger", "c1").read(10)
    assert isinstance(entry, UsageEntry)
    assert entry.status == end
    assert (entry.input_tokens, entry.cached_input_tokens) == (9, 6)
    assert entry.output_tokens == (3 if end == "completed" else 2)
    await check_jobs(store, [first.id])


async def test_only_a_finished_job_can_be_deleted_and_then_it_is_gone(store: JobStore) -> None:
    job = await running(store)
    with pytest.raises(JobConflict, match="in_progress"):
        await store.delete(job.id, "acme")
    await complete(store, job)
    await store.delete(job.id, "acme")
    with pytest.raises(JobGone):
        await store.get(job.id, "acme")
    assert await store.redis.xlen(store.keys.outbox) == 1, "its usage stays"


async def test_the_outbox_gives_each_usage_until_it_is_archived(store: JobStore) -> None:
    ids = []
    for _ in range(3):
        job = await running(store)
        await complete(store, job)
        ids.append(job.id)
    outbox = Outbox(store.redis, store.keys, "ledger", "c1")
    await outbox.open()
    await outbox.open()
    entries = await outbox.read(10)
    assert all(isinstance(entry, UsageEntry) for entry in entries)
    found = [
        (entry.job_id, entry.output_tokens) for entry in entries if isinstance(entry, UsageEntry)
    ]
    assert found == [(job_id, 1) for job_id in ids]
    assert await outbox.read(10) == []
    again = await outbox.read(10, unacknowledged=True)
    assert again == entries, "a consumer that died before it wrote reads them again"
    assert await store.ended.archive("ledger", [entry.entry_id for entry in entries[:2]]) == 2
    assert await outbox.backlog() == 1
    assert await store.ended.archive("ledger", [entry.entry_id for entry in entries]) == 1
    assert await outbox.backlog() == 0


async def test_with_an_archive_retention_starts_when_it_has_the_job(
    redis_server: RedisServer,
) -> None:
    store = open_store(settings_for(redis_server, retention={"start": "archive"}))
    job = await running(store)
    await complete(store, job)
    assert await store.redis.ttl(store.keys.job(job.id)) == -1, "kept until archived"
    outbox = Outbox(store.redis, store.keys, "ledger", "c1")
    await outbox.open()
    await store.ended.archive("ledger", [entry.entry_id for entry in await outbox.read(1)])
    assert 0 < await store.redis.ttl(store.keys.job(job.id)) <= 3600
    await store.close()


async def test_the_scripts_follow_the_table_of_transitions(store: JobStore) -> None:
    """Drive a job along every edge the scripts offer and compare with the table."""
    seen: list[tuple[Status, Status]] = []

    async def status(job_id: str) -> Status:
        return (await store.get(job_id, "acme")).status

    for ending in (Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.EXPIRED):
        job = await running(store)
        before = await status(job.id)
        await write(store, job, job.seq, [], ending=Ending(ending))
        seen.append((before, await status(job.id)))
    job = await running(store)
    await store.requeue(job.id, job.fence, None)
    seen.append((Status.IN_PROGRESS, await status(job.id)))
    await store.cancel(job.id, "acme")
    seen.append((Status.QUEUED, await status(job.id)))
    assert all(may_follow(*edge) for edge in seen)
    assert len(set(seen)) == 6


async def test_scripts_survive_a_script_flush(store: JobStore) -> None:
    await store.submit(submission())
    await store.redis.script_flush()
    assert len(await store.claim(QUEUE, "w1", 1)) == 1
