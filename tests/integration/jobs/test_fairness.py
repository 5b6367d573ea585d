"""Fair queueing: exact waits on virtual time, and behind a real worker."""

import heapq
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.settings.tree import Settings
from jobs.fairness import ServiceTier, estimated_tokens
from jobs.status import Status
from jobs.store.job_store import JobStore
from jobs.store.queue_control import ModeChange, QueueMode
from jobs.store.store_factory import open_store
from jobs.store.transitions import ClaimedJob, Ending, LogAppend
from tests.conftest import settings_for
from tests.support.following import follow_all, run_jobs
from tests.support.jobs import QUEUE, submission
from tests.support.processes import Pipeline, pipeline
from tests.support.redis_server import RedisServer
from tests.support.simulated import MODEL, client, generation, simulated_settings
from tests.support.virtual_time import VirtualTime

SLOTS = 4
TOKENS = 100  # a job takes as many milliseconds


class Shop:
    """A queue and a worker with a few slots, on virtual time."""

    def __init__(self, store: JobStore, clock: VirtualTime) -> None:
        self.store, self.clock = store, clock
        self.running: list[tuple[int, str, ClaimedJob]] = []
        self.waits: dict[str, int] = {}
        self.served: Counter[str] = Counter()
        #: What a job of an account without `max_tokens` generates.
        self.generates: dict[str, int] = {}

    async def submit(self, account: str, tokens: int = TOKENS, **fields: Any) -> str:
        return (await self.store.submit(submission(account, tokens=tokens, **fields))).id

    async def fill(self) -> None:
        free = SLOTS - len(self.running)
        for job in await self.store.claim(QUEUE, "w", free) if free else ():
            takes = self._tokens(job)
            self.waits[job.id] = self.clock.now - job.created
            self.served[job.account] += takes
            heapq.heappush(self.running, (self.clock.now + takes, job.id, job))

    def _tokens(self, job: ClaimedJob) -> int:
        return int(job.spec.body.get("max_tokens") or self.generates[job.account])

    async def run_until(self, end: int) -> None:
        """Serve, one job's end after the other."""
        await self.fill()
        while self.running and self.running[0][0] <= end:
            ends, _, job = heapq.heappop(self.running)
            await self.clock.set(ends)
            tokens = self._tokens(job)
            step = LogAppend(
                job.id, job.fence, job.seq, [], 10, 0, tokens, Ending(Status.COMPLETED)
            )
            assert await self.store.append([step]) == ["finished"]
            await self.fill()
        await self.clock.set(end)


@pytest.fixture
async def shop(store: JobStore) -> Shop:
    clock = VirtualTime(store)
    await clock.set(clock.now)
    return Shop(store, clock)


async def test_thousands_of_one_account_delay_anothers_job_by_its_share_and_no_more(
    shop: Shop,
) -> None:
    for _ in range(1000):
        await shop.submit("busy")
    quiet = []
    for _ in range(15):
        await shop.run_until(shop.clock.now + 1_000)
        quiet.append(await shop.submit("quiet"))
    await shop.run_until(shop.clock.now + 1_000)
    # The slot that is free next, or the one after: never behind what the other has queued.
    assert max(shop.waits[job_id] for job_id in quiet) <= TOKENS
    assert shop.served["busy"] > 60_000, "and nothing stands idle meanwhile"


async def test_a_newcomer_waits_for_one_job_of_each_other_account(shop: Shop) -> None:
    accounts = [f"busy{number}" for number in range(10)]
    for _ in range(50):
        for account in accounts:
            await shop.submit(account)
    await shop.run_until(shop.clock.now + 2_000)
    newcomer = await shop.submit("newcomer")
    await shop.run_until(shop.clock.now + 2_000)
    one_of_each = (len(accounts) + 1) * TOKENS / SLOTS
    assert shop.waits[newcomer] <= one_of_each + TOKENS  # and what is in the slots already


async def test_backlogged_accounts_are_served_by_weight_at_every_moment(shop: Shop) -> None:
    weights = {"one": 1.0, "two": 2.0, "five": 5.0}
    for _ in range(300):
        for account, weight in weights.items():
            await shop.submit(account, weight=weight)
    largest = estimated_tokens({"max_tokens": TOKENS}, 40)
    for _ in range(20):
        await shop.run_until(shop.clock.now + 500)
        per_weight = [shop.served[account] / weight for account, weight in weights.items()]
        # Start-time fair queueing: no two may be further apart than one job of each.
        assert max(per_weight) - min(per_weight) <= largest * (1 / 1.0 + 1 / 2.0)


async def test_large_jobs_get_no_more_than_small_ones(shop: Shop) -> None:
    for _ in range(400):
        await shop.submit("small", tokens=50)
    for _ in range(40):
        await shop.submit("large", tokens=500)
    await shop.run_until(shop.clock.now + 3_000)
    assert 0.6 < shop.served["small"] / shop.served["large"] < 1.3


OPEN = {"prompt": "hello"}


async def submit_open(shop: Shop, account: str, count: int) -> None:
    """Submit jobs without `max_tokens`."""
    for _ in range(count):
        await shop.submit(account, body=OPEN)


@pytest.mark.parametrize("primed", [False, True], ids=["unknown", "known for short outputs"])
async def test_leaving_out_max_tokens_gains_nothing(shop: Shop, *, primed: bool) -> None:
    """Whatever an account's jobs were estimated at, it gets what its share is."""
    if primed:
        shop.generates["greedy"] = 1
        await submit_open(shop, "greedy", 60)
        await shop.run_until(shop.clock.now + 60)
        shop.served.clear()
    shop.generates["greedy"] = 1_800
    await submit_open(shop, "greedy", 300)
    for _ in range(900):
        await shop.submit("fair", tokens=256)
    await shop.run_until(shop.clock.now + 50_000)
    assert shop.served["fair"] > 0
    ratio = shop.served["greedy"] / shop.served["fair"]
    assert 1 / 1.2 < ratio < 1.2, f"{shop.served}"


async def test_a_limit_that_is_not_used_costs_what_was_generated(shop: Shop) -> None:
    for number in range(40):
        long = await shop.submit("cautious", body={"prompt": "hello", "max_tokens": 5_000})
        [claimed] = await shop.store.claim(QUEUE, "w", 1)
        assert claimed.id == long
        step = LogAppend(long, claimed.fence, claimed.seq, [], 10, 0, 20, Ending(Status.COMPLETED))
        assert await shop.store.append([step, step]) == ["finished", "finished"], number
    await shop.submit("cautious", tokens=20)
    await shop.submit("other", tokens=5_000)
    [first] = await shop.store.claim(QUEUE, "w", 1)
    assert first.account == "cautious", "it owes nothing for tokens that it did not get"


async def test_a_job_is_settled_once_however_often_its_end_is_told(shop: Shop) -> None:
    await shop.submit("acme", body=OPEN)
    [job] = await shop.store.claim(QUEUE, "w", 1)
    step = LogAppend(job.id, job.fence, job.seq, [], 10, 0, 1_000, Ending(Status.COMPLETED))
    assert await shop.store.append([step]) == ["finished"]
    fair = await shop.store.redis.hgetall(shop.store.keys.part(QUEUE, "fair"))
    assert await shop.store.append([step]) == ["finished"]
    assert await shop.store.finish(job.id, job.fence, Ending(Status.FAILED))
    assert await shop.store.redis.hgetall(shop.store.keys.part(QUEUE, "fair")) == fair


async def test_a_better_tier_goes_first_and_a_lower_one_is_not_forgotten(
    redis_server: RedisServer,
) -> None:
    queue = {"ageing_seconds": 5, "ageing_every": 4}
    store = open_store(settings_for(redis_server, queue=queue))
    clock = VirtualTime(store)
    await clock.set(clock.now)
    shop = Shop(store, clock)
    for _ in range(500):
        await shop.submit("busy")
    flex = await shop.submit("thrifty", tier=ServiceTier.FLEX)
    await shop.run_until(clock.now + 4_000)
    assert flex not in shop.waits, "it is not its turn yet"
    urgent = await shop.submit("urgent", tier=ServiceTier.PRIORITY)
    await shop.run_until(clock.now + 4_000)
    assert shop.waits[urgent] <= TOKENS
    # Old enough after 5 s, it has one of the next four claims.
    assert 5_000 <= shop.waits[flex] <= 5_000 + 4 * TOKENS
    await store.close()


@pytest.fixture
def running(redis_server: RedisServer, tmp_path: Path) -> Iterator[Pipeline]:
    settings = simulated_settings(redis_server, slots=SLOTS)
    with pipeline(settings, tmp_path) as started:
        started.control()
        started.worker()
        yield started


async def test_behind_a_real_worker_thousands_of_jobs_do_not_hold_up_anothers(
    running: Pipeline,
) -> None:
    settings: Settings = running.settings
    async with client(settings) as (store, hub):
        await run_jobs(store, hub, [generation("warm", tokens=2)])
        await store.control.change_mode(MODEL, ModeChange.to(QueueMode.PAUSED), "test")
        busy = [generation(f"busy {number}", 20, "busy") for number in range(2000)]
        for job in busy:
            await store.submit(job)
        await store.control.change_mode(MODEL, ModeChange.to(QueueMode.OPEN), "test")
        quiet = []
        for number in range(10):
            job = generation(f"quiet {number}", 20, "quiet")
            await store.submit(job)
            await follow_all(hub, [job], 60)
            quiet.append(await store.get(job.id, "quiet"))
        assert (await store.observe(MODEL)).ready[ServiceTier.DEFAULT] > 200, "still busy"
        await store.control.purge(MODEL)
        started = [(await store.get(job.id, "busy")).started for job in busy]
        for one in quiet:
            between = sum(one.created <= moment < one.started for moment in started)
            # What was claimed with it or just before it; the rest of the 2,000 came later.
            assert between <= 2 * SLOTS, f"{between} jobs went before it"
