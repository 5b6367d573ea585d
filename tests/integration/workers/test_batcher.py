"""The micro-batcher on a real queue: when it waits for more jobs, and how many it claims."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from core import metrics
from core.settings.queue import QueueSettings
from jobs.blame import Occupancy
from jobs.store.job_store import JobStore
from jobs.store.transitions import ClaimedJob
from tests.support.jobs import QUEUE, submission
from tests.support.waiting import eventually
from workers.batcher import Acknowledgeable, Batcher

LONG = 60.0


@dataclass
class Ticket:
    """A ticket that knows whether it was acknowledged."""

    acknowledged: bool = False

    def done(self) -> None:
        self.acknowledged = True


def claims() -> tuple[int, int]:
    """Return how often jobs were claimed in this process, and how many."""
    samples = [sample for family in metrics.claim_batch.collect() for sample in family.samples]
    found = {one.name: int(one.value) for one in samples if one.labels == {"model": QUEUE}}
    name = "penstock_claim_batch_size"
    return found.get(f"{name}_count", 0), found.get(f"{name}_sum", 0)


@dataclass
class Shop:
    """An engine's slots, and what was started in them."""

    room: int
    busy: bool
    started: list[str] = field(default_factory=list)
    claims_before: tuple[int, int] = field(default_factory=claims)

    def start(self, job: ClaimedJob, ticket: Acknowledgeable) -> None:
        del ticket
        self.room -= 1
        self.started.append(job.id)

    async def until_started(self, count: int) -> None:
        async def all_of_them() -> bool:
            return len(self.started) == count

        await eventually(all_of_them, LONG / 6)

    @property
    def claims(self) -> tuple[int, int]:
        """How many claims there were since, and of how many jobs in all."""
        calls, jobs = claims()
        return calls - self.claims_before[0], jobs - self.claims_before[1]


@asynccontextmanager
async def batching(store: JobStore, shop: Shop, **queue: float) -> AsyncIterator[Batcher]:
    """Run a batcher for the length of a block."""
    batcher = Batcher(
        store,
        QueueSettings().model_copy(update=queue),  # also to waits too long to be allowed
        QUEUE,
        "w1",
        lambda: shop.room,
        lambda: Occupancy.BUSY if shop.busy else Occupancy.EMPTY,
        lambda _waited: None,
        shop.start,
    )
    running = asyncio.create_task(batcher.run())
    yield batcher
    batcher.stop()
    async with asyncio.timeout(LONG / 6):
        await running


async def queued(store: JobStore, count: int) -> list[str]:
    return [(await store.submit(submission())).id for _ in range(count)]


async def test_an_idle_engine_gets_what_there_is_at_once(store: JobStore) -> None:
    ids = await queued(store, 3)
    shop = Shop(room=8, busy=False)
    async with batching(store, shop, max_wait_seconds=LONG) as batcher:
        for _ in ids:
            batcher.offer(Ticket())
        await shop.until_started(3)
    assert shop.claims == (1, 3)


async def test_while_the_engine_is_busy_jobs_that_come_together_are_claimed_together(
    store: JobStore,
) -> None:
    ids = await queued(store, 5)
    shop = Shop(room=8, busy=True)
    async with batching(store, shop, max_wait_seconds=1.0) as batcher:
        for _ in ids:
            batcher.offer(Ticket())
            await asyncio.sleep(0.01)
        await shop.until_started(5)
    assert shop.claims == (1, 5)


async def test_a_full_batch_is_not_waited_with_and_none_is_larger(store: JobStore) -> None:
    ids = await queued(store, 8)
    shop = Shop(room=16, busy=True)
    async with batching(store, shop, max_wait_seconds=LONG, max_batch=4) as batcher:
        for _ in ids:
            batcher.offer(Ticket())
        await shop.until_started(8)
    assert shop.claims == (2, 8)


async def test_no_more_is_claimed_than_the_engine_has_room_for(store: JobStore) -> None:
    ids = await queued(store, 5)
    shop = Shop(room=2, busy=False)
    async with batching(store, shop) as batcher:
        for _ in ids:
            batcher.offer(Ticket())
        await shop.until_started(2)
        assert await store.redis.zcard(store.keys.queued(QUEUE)) == 3
        shop.room += 3
        batcher.room_changed()
        await shop.until_started(5)
    assert set(shop.started) == set(ids)
    assert shop.claims == (2, 5)


async def test_tickets_that_find_nothing_and_those_left_at_the_end_are_acknowledged(
    store: JobStore,
) -> None:
    await queued(store, 1)
    shop, tickets = Shop(room=1, busy=False), [Ticket() for _ in range(4)]
    spare = Shop(room=4, busy=False)
    async with batching(store, shop) as batcher:
        for ticket in tickets:
            batcher.offer(ticket)
        await shop.until_started(1)
    assert [ticket.acknowledged for ticket in tickets] == [False, True, True, True]
    late = Ticket()
    async with batching(store, spare) as batcher:
        batcher.offer(late)

        async def acknowledged() -> bool:
            return late.acknowledged

        await eventually(acknowledged)
    assert spare.started == []
