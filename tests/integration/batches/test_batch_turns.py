"""Single turns of a batch: a process that lost its lock, missed an answer or lost its jobs."""

import tracemalloc
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import httpx2
import orjson
import pytest
from pydantic import SecretStr
from sqlalchemy import select

from accounts.caller_cache import CallerCache
from batches import claims, ids
from batches.line_submitter import LineSubmitter
from batches.records import IN_PROGRESS, VALIDATING, ClaimedBatch
from batches.result_lines import LineOutcome
from batches.result_parts import ResultParts, read_parts
from billing.budgets.budget_changes import set_budget
from billing.budgets.budgets import Budget
from core.db.database import Database
from core.db.tables.base import now
from core.db.tables.webhooks import WebhookEventRow
from core.errors import DatabaseUnavailable, StoreUnavailable
from core.redis.keys import Keys
from core.settings.tree import Settings
from intake.services import Services
from intake.services_factory import open_services
from jobs.model_registry import ModelRegistry
from jobs.status import Status
from jobs.store.job_store import JobStore
from jobs.store.transitions import Lock
from tests.integration.api.conftest import MODEL
from tests.support.batches import answering_all, create, lines, says
from tests.support.ledger import a_price
from tests.support.proxy import Proxy
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

COUNT = 8
HOLDER = "test"
CONTENT = lines(COUNT, MODEL)


pytestmark = pytest.mark.settings(batches__look_seconds=0.05, batches__flush_seconds=0.1)


@dataclass
class Taken:
    """A batch that this process has claimed."""

    api: Services
    row: ClaimedBatch
    parts: ResultParts
    submitter: LineSubmitter

    @property
    def job_ids(self) -> list[str]:
        return [ids.job_id(self.row.id, index) for index in range(COUNT)]


@asynccontextmanager
async def taken(settings: Settings, batch_id: str) -> AsyncIterator[Taken]:
    """Take a batch's lock and claim it."""
    async with open_services(settings, "feeder") as api:
        lock = Lock(ids.lock_name(batch_id), HOLDER)
        assert await api.store.lock(*lock, 60)
        row = await claims.claim_batch(api.database, batch_id)
        assert row is not None
        yield begin(api, row, await claims.input_bytes(api.database, batch_id))


def begin(api: Services, row: ClaimedBatch, size: int = len(CONTENT)) -> Taken:
    """Begin to submit a batch's lines from its row."""
    lock = Lock(ids.lock_name(row.id), HOLDER)
    parts = ResultParts(api, row, 0)
    return Taken(api, row, parts, LineSubmitter(api, row, size, parts, lock))


@pytest.fixture
async def batch(client: httpx2.AsyncClient) -> str:
    return str((await create(client, CONTENT))["id"])


async def turn_until_done(submitter: LineSubmitter) -> None:
    async def done() -> bool:
        return not await submitter.turn()

    await eventually(done)


async def test_a_feeder_without_the_lock_submits_nothing(
    batch: str, settings: Settings, store: JobStore
) -> None:
    async with taken(settings, batch) as mine:
        await store.lock(ids.lock_name(batch), HOLDER, 0)
        await store.lock(ids.lock_name(batch), "another", 60)
        assert await mine.submitter.turn()
        assert not await store.redis.exists(*(store.keys.job(one) for one in mine.job_ids))
        await store.lock(ids.lock_name(batch), "another", 0)
        assert await begin(mine.api, mine.row).submitter.turn()
        assert not await store.redis.exists(*(store.keys.job(one) for one in mine.job_ids))
        await store.lock(ids.lock_name(batch), HOLDER, 60)
        assert await begin(mine.api, mine.row).submitter.turn()
        assert await store.redis.zcard(store.keys.queued(MODEL)) == COUNT


async def test_a_job_whose_acceptance_was_not_heard_of_is_cancelled_with_its_batch(
    batch: str, settings: Settings, redis_server: RedisServer, store: JobStore
) -> None:
    between = Proxy(redis_server.port)
    between.start()
    far = settings.model_copy(
        update={"redis": settings.redis.model_copy(update={"url": SecretStr(between.url)})}
    )
    async with taken(settings, batch) as first:
        assert await first.submitter.turn()
        async with open_services(far, "feeder") as api:
            # It has recorded no job yet, but Redis has all of them.
            cut_off = begin(api, first.row)
            between.refuse(True)
            with suppress(StoreUnavailable):
                await cut_off.submitter.turn()
            between.refuse(False)
            cut_off.submitter.cancel()
            await turn_until_done(cut_off.submitter)
    between.stop()
    for job_id in first.job_ids:
        assert (await store.get(job_id, "acme")).status is Status.CANCELLED


async def test_requests_whose_jobs_were_lost_stay_with_the_batch_while_its_caller_is_unknown(
    batch: str, settings: Settings, store: JobStore
) -> None:
    async with taken(settings, batch) as mine:
        assert await mine.submitter.turn()
        await store.redis.delete(*(store.keys.job(one) for one in mine.job_ids))
        away = True

        async def truth(fields: Sequence[str]) -> Mapping[str, bytes]:
            if away:
                raise DatabaseUnavailable("away", retry_after_seconds=1)
            return await mine.api.directory.cache_sync.truth(fields)

        # Redis lost its cache of callers, too.
        callers = CallerCache(store.redis, Keys("lost"), truth)
        row = await claims.claim_batch(mine.api.database, batch)
        assert row is not None
        successor = begin(replace(mine.api, callers=callers), row)
        with pytest.raises(DatabaseUnavailable):
            await successor.submitter.turn()
        away = False
        async with answering_all(store, MODEL):
            await turn_until_done(successor.submitter)
        await callers.close()
        assert successor.submitter.finished == COUNT
        state = await claims.read_state(mine.api.database, batch)
        assert state.completed == COUNT


async def test_a_model_that_redis_forgot_is_waited_for(
    batch: str, settings: Settings, store: JobStore
) -> None:
    registry = ModelRegistry(store.redis, store.keys)
    model = await registry.get(MODEL)
    await store.redis.delete(store.keys.models)
    async with taken(settings, batch) as mine:
        assert await mine.submitter.turn()
        assert mine.submitter.finished == 0
    await registry.register(model)
    async with taken(settings, batch) as successor:
        assert await successor.submitter.turn()
        assert await store.redis.zcard(store.keys.queued(MODEL)) == COUNT


async def test_a_part_written_again_holds_what_came_in_since(
    batch: str, settings: Settings
) -> None:
    def outcome(index: int) -> LineOutcome:
        return LineOutcome(index, orjson.dumps({"index": index}) + b"\n", answered=index % 2 == 0)

    async with taken(settings, batch) as mine:
        mine.parts.add([outcome(0), outcome(1)])
        await mine.parts.flush()
        # The answer to the commit is lost; the process keeps its state and goes on.
        again = ResultParts(mine.api, mine.row, 0)
        again.add(outcome(index) for index in range(4))
        await again.flush()
        parts = await claims.list_parts(mine.api.database, batch)
        for kind, odd in (("output", 0), ("error", 1)):
            found = [piece async for piece in read_parts(mine.api, batch, parts, kind)]
            written = [orjson.loads(line)["index"] for line in b"".join(found).splitlines()]
            assert written == [odd, odd + 2]
        state = await claims.read_state(mine.api.database, batch)
        assert (state.completed, state.failed) == (2, 2)


async def test_large_answers_that_are_all_there_at_once_are_read_a_few_at_a_time(
    client: httpx2.AsyncClient, settings: Settings, store: JobStore
) -> None:
    count, size = 512, 100_000
    made = await create(client, lines(count, MODEL))
    async with taken(settings, made["id"]) as mine:
        assert await mine.submitter.turn()
        for _ in range(count):
            (job,) = await store.claim(MODEL, "hand", 1)
            await store.append([says(job, "x" * size)])
        tracemalloc.start()
        await turn_until_done(mine.submitter)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (await claims.read_state(mine.api.database, made["id"])).completed == count
    assert peak < count * size, f"{peak >> 20} MiB"


async def test_a_batch_out_of_budget_says_so_and_tells_it_once(
    client: httpx2.AsyncClient, batch: str, settings: Settings, store: JobStore, database: Database
) -> None:
    def waiting(shown: httpx2.Response) -> Any:
        return shown.json()["waiting"]

    await a_price(database, MODEL)
    await client.post("/v1/webhooks", json={"url": "https://example.com/hook"})
    async with taken(settings, batch) as mine:
        running = {"status": IN_PROGRESS, "in_progress_at": now()}
        async with database.write() as connection:
            fence = mine.row.fence
            assert await claims.change_batch(connection, batch, fence, VALIDATING, **running)
        for amount in ("0", "0.000001", "1000"):
            await set_budget(database, Budget("acme", Decimal(amount)))
            await mine.api.cost_cache.refresh()
            await mine.api.budget_guard.refresh()
            row = await claims.claim_batch(database, batch)
            assert row is not None
            assert await begin(mine.api, row).submitter.turn()
            shown = waiting(await client.get(f"/v1/batches/{batch}"))
            assert (shown is None) is (amount == "1000")
            if shown is not None:
                assert shown["code"] == "budget_exceeded"
                assert "are left of this account's budget" in shown["message"]
        assert await store.redis.zcard(store.keys.queued(MODEL)) == COUNT
    async with database.read() as connection:
        kept = list(await connection.scalars(select(WebhookEventRow.payload)))
    (told,) = [one for one in map(orjson.loads, kept) if one["type"] == "batch.waiting"]
    assert (told["data"]["id"], told["data"]["waiting"]["code"]) == (batch, "budget_exceeded")
