"""The dead-letter list: pages, filters, floods of one account, and what leaves it."""

from collections.abc import Sequence

import pytest

from core.errors import EngineError, RunTimeout
from jobs.status import Status
from jobs.store.dead_letters import PAGE_SCAN, DeadLetterCursor, DeadLetterFilter
from jobs.store.job_store import JobStore
from jobs.store.transitions import Ending
from tests.support.jobs import QUEUE, dead_letters, submission, write

OTHER = "other-model"


async def die(store: JobStore, account: str, queue: str = QUEUE) -> str:
    """Submit a job and let all its attempts fail."""
    job = (await store.submit(submission(account, queue=queue))).id
    while (claimed := await store.claim(queue, "w", 1)) and claimed[0].id == job:
        await store.requeue(job, claimed[0].fence, EngineError("broken"))
    return job


async def listed(store: JobStore, wanted: DeadLetterFilter, limit: int = 2) -> list[str]:
    """Return all matching ids, page by page."""
    found: list[str] = []
    after: DeadLetterCursor | None = None
    while True:
        page = await store.dead.page(wanted, limit=limit, after=after)
        assert len(page.jobs) <= limit
        found += [job.id for job in page.jobs]
        after = page.after
        if after is None:
            return found


async def flood(store: JobStore, account: str, number: int) -> None:
    """Put many jobs into the list directly, all newer than any other and of one millisecond."""
    job = await die(store, account)
    record = await store.redis.hgetall(store.keys.job(job))
    finished = int(record[b"finished"]) + 1_000
    pipe = store.redis.pipeline(transaction=False)
    for place in range(number):
        name = f"job_{place:032x}"
        pipe.hset(store.keys.job(name), mapping={**record, b"finished": finished})
        for key in (store.keys.dead, store.keys.account_dead(account)):
            pipe.zadd(key, {name: finished})
    await pipe.execute()


async def test_pages_hold_every_job_once_newest_first(store: JobStore) -> None:
    jobs = [await die(store, "acme") for _ in range(7)]
    for limit in (1, 3, 7, 100):
        assert await listed(store, DeadLetterFilter("acme"), limit) == jobs[::-1]


async def test_a_page_goes_on_after_a_job_that_has_left_the_list(store: JobStore) -> None:
    jobs = [await die(store, "acme") for _ in range(4)]
    page = await store.dead.page(DeadLetterFilter("acme"), limit=2)
    assert [job.id for job in page.jobs] == [jobs[3], jobs[2]]
    for job in page.jobs:
        await store.dead.remove(job)
    rest = await store.dead.page(DeadLetterFilter("acme"), limit=2, after=page.after)
    assert [job.id for job in rest.jobs] == [jobs[1], jobs[0]]
    assert rest.after is None


async def test_a_flood_of_one_account_hides_no_other(store: JobStore) -> None:
    mine = await die(store, "small")
    await flood(store, "big", PAGE_SCAN + 500)
    assert [job.id for job in await dead_letters(store, "small")] == [mine]
    everything = await listed(store, DeadLetterFilter(), 1_000)
    assert len(everything) == len(set(everything)) == PAGE_SCAN + 502
    assert mine in everything, "the operator finds it too"
    only = await listed(store, DeadLetterFilter("small"))
    assert only == [mine]


async def test_a_rare_match_is_found_behind_pages_that_are_empty(store: JobStore) -> None:
    rare = await die(store, "acme", OTHER)
    await flood(store, "acme", PAGE_SCAN + 10)
    first = await store.dead.page(DeadLetterFilter(model=OTHER), limit=5)
    assert (first.jobs, first.after is None) == ([], False)
    assert await listed(store, DeadLetterFilter(model=OTHER)) == [rare]


async def test_each_filter_takes_only_what_it_says(store: JobStore) -> None:
    one = await die(store, "acme")
    two = await die(store, "acme", OTHER)
    three = await die(store, "zeta")
    job = (await store.submit(submission("acme"))).id
    (claimed,) = await store.claim(QUEUE, "w", 1)
    await store.requeue(job, claimed.fence, RunTimeout("too long"), delay_seconds=0)
    for _ in range(3):
        (claimed,) = await store.claim(QUEUE, "w", 1)
        await store.requeue(job, claimed.fence, RunTimeout("too long"))
    times = {name: (await store.get(name, None)).finished for name in (one, two, three, job)}

    def among(wanted: DeadLetterFilter, ids: Sequence[str]) -> set[str]:
        return {name for name in ids if name in times}

    for wanted, expected in (
        (DeadLetterFilter(), {one, two, three, job}),
        (DeadLetterFilter("acme"), {one, two, job}),
        (DeadLetterFilter(model=OTHER), {two}),
        (DeadLetterFilter(reason="run-timeout"), {job}),
        (DeadLetterFilter("zeta", reason="run-timeout"), set()),
        (
            DeadLetterFilter(failed_after=times[job]),
            {name for name, at in times.items() if at >= times[job]},
        ),
        (
            DeadLetterFilter(failed_before=times[two]),
            {name for name, at in times.items() if at < times[two]},
        ),
    ):
        found = await listed(store, wanted)
        assert among(wanted, found) == set(found) == expected, wanted
        assert await store.dead.count(wanted, 5.0) == (len(expected), True)


async def test_a_deleted_job_and_a_purged_one_leave_both_lists(store: JobStore) -> None:
    deleted, purged = [await die(store, "acme") for _ in range(2)]
    await store.delete(deleted, "acme")
    assert [job.id for job in await dead_letters(store, "acme")] == [purged]
    await store.redis.zadd(f"{store.keys.prefix}:purge", {f"acme {purged}": 1})
    await store.purge()
    assert await dead_letters(store, "acme") == []
    assert await store.redis.zcard(store.keys.dead) == 0
    assert await store.redis.zcard(store.keys.account_dead("acme")) == 0


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED])
async def test_a_job_that_used_up_no_attempts_is_not_listed(
    store: JobStore, status: Status
) -> None:
    await store.submit(submission())
    (claimed,) = await store.claim(QUEUE, "w", 1)
    error = EngineError("bad request") if status is Status.FAILED else None
    await write(store, claimed, claimed.seq, [7], ending=Ending(status, error))
    assert await dead_letters(store, "acme") == []
