"""A planned failover behind one address: the old primary lives on as a read-only replica.

It keeps its connections, as a Kubernetes Service, a virtual IP or HAProxy leaves them: only new
connections reach the new primary.
"""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from core.db.database import Database
from core.settings.billing import DatabaseSettings
from core.settings.tree import Settings
from tests.support.http_client import request
from tests.support.invariants import check_jobs, check_nothing_left
from tests.support.keys import make_key
from tests.support.ledger import until_consumed, usage_of
from tests.support.machine import is_over
from tests.support.processes import Pipeline, pipeline
from tests.support.proxy import Proxy
from tests.support.redis_faults import administrator
from tests.support.redis_server import RedisServer
from tests.support.redis_server import running as redis_running
from tests.support.simulated import (
    MODEL,
    check_text,
    client,
    generation,
    simulated_settings,
    under_way,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(300)

#: What the pipeline may need after the address has moved.
RECOVERY_SECONDS = 15.0

JOB = {
    "url": "/v1/completions",
    "body": {"model": MODEL, "prompt": "x", "max_tokens": 4, "ignore_eos": True},
}


@pytest.fixture
def database_kind() -> str:
    """One kind of database."""
    return "sqlite"


@pytest.fixture(params=["redis", "valkey"])
def servers(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[RedisServer]]:
    """Two servers: the primary, and what becomes its replica."""
    with (
        redis_running(request.param, tmp_path / "one", aof=True) as one,
        redis_running(request.param, tmp_path / "two", aof=True) as two,
    ):
        yield [one, two]


@pytest.fixture
def address(servers: list[RedisServer]) -> Iterator[Proxy]:
    """The stable address, which leads to the primary."""
    proxy = Proxy(servers[0].port)
    proxy.start()
    yield proxy
    proxy.stop()


async def replicate(primary: RedisServer, replica: Any) -> None:
    await replica.execute_command("REPLICAOF", "127.0.0.1", str(primary.port))

    async def linked() -> bool:
        return (await replica.info("replication")).get("master_link_status") == "up"

    await eventually(linked)


async def fail_over(old: Any, new: Any, port: int) -> None:
    await old.execute_command("FAILOVER", "TO", "127.0.0.1", str(port))

    async def promoted() -> bool:
        roles = [(await each.info("replication"))["role"] for each in (old, new)]
        return roles == ["slave", "master"]

    await eventually(promoted)


async def unready(running: Pipeline) -> list[str]:
    ready = await asyncio.gather(
        *(asyncio.to_thread(process.ready) for process in running.processes)
    )
    pairs = zip(running.processes, ready, strict=True)
    return [process.name for process, is_ready in pairs if not is_ready]


async def test_a_planned_failover_behind_one_address_costs_seconds_and_no_job(
    servers: list[RedisServer],
    address: Proxy,
    database: Database,
    database_settings: DatabaseSettings,
    tmp_path: Path,
) -> None:
    old, new = servers
    settings = simulated_settings(old, slots=8, database=database_settings.model_dump())
    redis = {**settings.redis.model_dump(exclude_unset=True), "url": address.url}
    settings = Settings(
        _env_file=None, **settings.model_dump(exclude_unset=True) | {"redis": redis}
    )
    async with administrator(old) as at_old, administrator(new) as at_new:
        await replicate(old, at_new)
        with pipeline(settings, tmp_path) as running:
            key = make_key(settings)
            for begin in (running.control, running.ledger, running.feeder, running.begin_webhooks):
                begin()
            await asyncio.to_thread(running.worker)
            await asyncio.to_thread(running.worker)
            port = (await asyncio.to_thread(running.api)).settings.api.port

            async def all_ready() -> bool:
                return not await unready(running)

            async def none_ready() -> bool:
                return len(await unready(running)) == len(running.processes)

            await eventually(all_ready, timeout=60)
            async with client(settings) as (store, hub):
                jobs = [generation(f"job {i}", tokens=300) for i in range(100)]
                following = await under_way(store, hub, jobs, running=9, seconds=120)
                await fail_over(at_old, at_new, new.port)
                assert not following.done()
                # The address still leads to the old primary, which answers reads.
                await eventually(none_ready, timeout=20)
                refused = await request(port, "POST", "/v1/jobs", key, JOB)
                assert refused.status == 503
                assert int(refused.headers["retry-after"]) > 0
                address.retarget(new.port)
                began = time.monotonic()

                async def accepted() -> str:
                    answer = await request(port, "POST", "/v1/jobs", key, JOB)
                    return answer.json["id"] if answer.status == 202 else ""

                later = await eventually(accepted, timeout=RECOVERY_SECONDS)
                await eventually(all_ready, timeout=RECOVERY_SECONDS)
                assert not is_over(began, RECOVERY_SECONDS)
                check_text(jobs, await following)
                ids = [job.id for job in jobs] + [later]

                async def ended() -> bool:
                    return (await store.get(later, "acme")).status.is_terminal

                await eventually(ended)
                await until_consumed(store, 60)
                recorded = list((await usage_of(database)).values())
                await check_jobs(store, ids, recorded=recorded)
                await check_nothing_left(store, MODEL)
            assert all(process.running for process in running.processes)
