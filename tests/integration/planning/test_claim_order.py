"""The planner's queue returns jobs in the same order as the real scripts."""

import asyncio
import random
from collections.abc import AsyncIterator

import orjson
import pytest

from jobs.fairness import ServiceTier, estimated_tokens
from jobs.store.job_store import JobStore
from jobs.store.store_factory import open_store
from planning.ready_set import ReadySet
from tests.conftest import settings_for
from tests.support.jobs import QUEUE, submission
from tests.support.redis_server import RedisServer

WEIGHTS = {"acme": 1.0, "birch": 2.0, "cobalt": 0.5}


class Both:
    """The real queue and the planner's, with the same calls on both."""

    def __init__(self, store: JobStore, model: ReadySet) -> None:
        self._store = store
        self.model = model
        self._count = 0

    async def submit(self, chance: random.Random) -> None:
        account, tier = chance.choice(list(WEIGHTS)), chance.choice(list(ServiceTier))
        body = {"prompt": "x" * chance.randrange(1, 900), "max_tokens": chance.randrange(1, 500)}
        self._count += 1
        job = submission(account, tier=tier, body=body, weight=WEIGHTS[account])
        job = job._replace(id=f"job_{self._count:06}")  # ties are broken by the name
        accepted = await self._store.submit(job)
        cost = estimated_tokens(body, len(orjson.dumps(body)))
        now = accepted.created / 1000
        self.model.submit(self._count, account, tier.rank, cost, now, WEIGHTS[account])

    async def claim(self, n: int, now: float) -> None:
        expected = [f"job_{self.model.claim(now)[0]:06}" for _ in range(min(n, len(self.model)))]
        claimed = await self._store.claim(QUEUE, "w1", n)
        assert [job.id for job in claimed] == expected


@pytest.fixture(params=[0.001, 1_000.0], ids=["all old", "none old"])
async def both(any_server: RedisServer, request: pytest.FixtureRequest) -> AsyncIterator[Both]:
    queue = {"ageing_seconds": request.param, "ageing_every": 3}
    settings = settings_for(any_server, queue=queue)
    store = open_store(settings)
    yield Both(store, ReadySet(settings.queue))
    await store.close()


async def test_same_submits_and_claims_give_the_same_order(both: Both) -> None:
    """A claim comes when everything is older than a millisecond, or nothing ages at all."""
    chance = random.Random(20261122)
    now = 4e9 if both.model.ageing_seconds < 1 else 0.0  # by the model's clock: all old, or none
    for _ in range(25):
        for _ in range(chance.randrange(1, 20)):
            await both.submit(chance)
        await asyncio.sleep(0.003)
        for _ in range(chance.randrange(1, 5)):
            await both.claim(chance.randrange(1, 6), now)
    while len(both.model):
        await both.claim(5, now)
