"""An account whose jobs fail is slowed; nothing else is."""

from typing import Any

import pytest

from core.errors import InvalidJob, TooManyFailures
from jobs.blame import Blame
from jobs.status import Status
from jobs.store.job_store import JobStore
from jobs.store.transitions import Ending
from tests.support.jobs import QUEUE, complete, submission
from tests.support.virtual_time import VirtualTime

BAD = Ending(Status.FAILED, InvalidJob("the schema cannot be compiled"))


async def fail(store: JobStore, count: int, account: str = "acme") -> None:
    """Submit jobs, then let each fail in its worker."""
    for _ in range(count):
        await store.submit(submission(account))
    for job in await store.claim(QUEUE, "w", count):
        assert await store.finish(job.id, job.fence, BAD)


@pytest.mark.settings(limits__failures_per_minute=6)
async def test_an_account_above_its_budget_is_refused_until_it_may_fail_again(
    store: JobStore,
) -> None:
    clock = VirtualTime(store)
    await clock.set(clock.now)
    await fail(store, 7)
    with pytest.raises(TooManyFailures, match="more than 6 jobs a minute") as refused:
        await store.submit(submission())
    assert refused.value.retry_after_seconds == 10
    await store.submit(submission("other"))
    await clock.advance(9_999)
    with pytest.raises(TooManyFailures):
        await store.submit(submission())
    await clock.advance(1)
    await store.submit(submission())


@pytest.mark.settings(limits__failures_per_minute=6)
async def test_an_account_is_slowed_and_never_shut_out(store: JobStore) -> None:
    clock = VirtualTime(store)
    await clock.set(clock.now)
    await fail(store, 60)
    with pytest.raises(TooManyFailures) as refused:
        await store.submit(submission())
    assert refused.value.retry_after_seconds == 60, "a minute, however many failed"


@pytest.mark.settings(limits__failures_per_minute=6, retry__max_kills=2)
async def test_a_poison_job_uses_up_the_whole_budget(store: JobStore) -> None:
    clock = VirtualTime(store)
    await clock.set(clock.now)
    await store.submit(submission())
    for _ in range(3):
        (job,) = await store.claim(QUEUE, "w", 1)
        ended = await store.requeue(job.id, job.fence, None, blame=Blame.ENGINE)
    assert ended == "failed"
    with pytest.raises(TooManyFailures) as refused:
        await store.submit(submission())
    assert refused.value.retry_after_seconds == 10


@pytest.mark.settings(limits__failures_per_minute=0)
async def test_without_a_budget_no_failure_is_held_against_an_account(store: JobStore) -> None:
    await fail(store, 20)
    await store.submit(submission())


@pytest.mark.settings(limits__failures_per_minute=6)
async def test_jobs_that_end_otherwise_leave_no_trace(store: JobStore) -> None:
    jobs = [await store.submit(submission()) for _ in range(3)]
    await store.cancel(jobs[2].id, "acme")
    for job in await store.claim(QUEUE, "w", 3):
        await complete(store, job)
    redis: Any = store.redis
    assert await redis.keys(f"{store.keys.prefix}:rate:*") == []
