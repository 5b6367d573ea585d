"""Whatever happens to a fleet, its guilty jobs fail as poison, and no innocent job does."""

from random import Random

import pytest

from core.errors import PoisonJob
from core.settings.tree import Settings
from jobs.blame import Blame
from jobs.status import Status
from jobs.store.job_store import JobStore
from tests.support.blame_fleet import Fleet, Guilt
from tests.support.invariants import check_jobs, check_nothing_left
from tests.support.jobs import QUEUE

TURNS = 6000
ACCOUNTS = ("a", "b", "c")
GUILTS = (
    Guilt(Blame.ENGINE, 0),
    Guilt(Blame.UNKNOWN, 0),
    Guilt(Blame.ENGINE, 2),
    Guilt(Blame.UNKNOWN, 2),
)


@pytest.mark.settings(queue__apart_wait_seconds=0, lease__seconds=900)
@pytest.mark.parametrize(("seed", "workers"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 9), (6, 3)])
async def test_the_guilty_fail_and_the_innocent_complete_without_a_counted_attempt(
    store: JobStore, settings: Settings, seed: int, workers: int
) -> None:
    random = Random(seed)
    fleet = Fleet(store, random, workers)
    wanted: list[Guilt | None] = [None] * 60
    wanted += [random.choice(GUILTS) for _ in range(4)]
    random.shuffle(wanted)
    for guilt in wanted:
        await fleet.submit(random.choice(ACCOUNTS), guilt)
    turns = 0
    while len(fleet.ended) < len(fleet.jobs):
        turns += 1
        assert turns < TURNS, "a job waits for ever"
        await fleet.turn()
    retry = settings.retry
    for job_id in fleet.jobs:
        record = await store.get(job_id, await fleet._account(job_id))
        alone = [stop for stop in fleet.stops[job_id] if not stop.others]
        failed = sum(stop.blame is Blame.ENGINE for stop in alone)
        assert (record.failures, record.attempt) == (0, 1)
        if job_id not in fleet.guilty:
            assert record.status is Status.COMPLETED
            continue
        assert record.status is Status.FAILED
        assert record.error is not None
        assert record.error["code"] == PoisonJob.code
        assert failed >= retry.max_kills or len(alone) >= retry.max_lone_stops
        together = len(fleet.stops[job_id]) - len(alone)
        assert together <= retry.max_deaths + 4, "it stopped too many workers beside others"
    for account in ACCOUNTS:
        own = [job_id for job_id in fleet.jobs if await fleet._account(job_id) == account]
        await check_jobs(store, own, account)
    await check_nothing_left(store, QUEUE)
