"""Real servers refuse commands in every way that can be produced: later, and never for ever."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import StoreUnavailable
from core.redis.client import accepts_writes, connect
from core.redis.keys import Keys
from core.redis.replies import reply_code
from jobs.store.store_factory import open_store
from jobs.store.usage_outbox import Outbox
from tests.conftest import settings_for
from tests.support.jobs import submission
from tests.support.redis_faults import FAULTS, RedisFault, administrator
from tests.support.redis_server import RedisServer
from tests.support.redis_server import running as redis_running
from tests.support.waiting import eventually


@pytest.fixture(params=["redis", "valkey"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    """A server of this test's own."""
    with redis_running(request.param, tmp_path / "data") as started:
        yield started


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
async def test_what_redis_refuses_is_refused_with_a_time_and_works_again_after(
    server: RedisServer, fault: RedisFault
) -> None:
    store = open_store(settings_for(server))
    await store.submit(submission())
    async with administrator(server) as admin:
        await fault.begin(admin)
        refusals = []
        for call in (lambda: store.submit(submission()), store.check_writable):
            with pytest.raises(StoreUnavailable) as refused:
                await call()
            refusals.append(refused.value)
        await fault.end(admin)
    for refusal in refusals:
        assert refusal.__cause__ is not None
        assert reply_code(refusal.__cause__) in fault.codes
        assert refusal.retry_after_seconds > 0

    async def works() -> bool:
        try:
            await store.submit(submission())
            await store.check_writable()
        except StoreUnavailable:
            return False
        return True

    await eventually(works)
    await store.close()


async def test_a_command_that_waits_while_its_server_becomes_a_replica_is_refused_with_a_time(
    server: RedisServer,
) -> None:
    settings = settings_for(server)
    store = open_store(settings)
    outbox = Outbox(store.redis, store.keys, "ledger", "c1")
    await outbox.open()
    async with administrator(server) as admin:
        waiting = asyncio.create_task(outbox.read(1, block_ms=60_000))

        async def waits() -> bool:
            return int((await admin.info("clients"))["blocked_clients"]) == 1

        await eventually(waits)
        await admin.execute_command("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(StoreUnavailable) as refused:
            await waiting
        assert reply_code(refused.value.__cause__ or refused.value) == "UNBLOCKED"
    await store.close()


async def test_a_server_that_wants_another_password_is_unavailable_and_not_fatal(
    server: RedisServer,
) -> None:
    settings = settings_for(server)
    wrong = server.url.replace("redis://", "redis://:wrong@")
    async with administrator(server) as admin:
        await admin.config_set("requirepass", "right")
        redis = connect(settings.redis.model_copy(update={"url": type(settings.redis.url)(wrong)}))
        with pytest.raises(StoreUnavailable) as refused:
            await accepts_writes(redis, Keys("t"))
        assert reply_code(refused.value.__cause__ or refused.value) == "WRONGPASS"
        await redis.aclose()
