"""Batch processes killed at every stage: each request is in a file once, each job billed once."""

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from batches import ids as batch_ids
from core.db.database import Database
from core.settings.billing import DatabaseSettings
from core.settings.tree import Settings
from jobs.store.job_store import JobStore
from jobs.store.store_factory import open_store
from tests.support.batches import check_whole, create, lines, read, results, until
from tests.support.invariants import check_nothing_left
from tests.support.keys import make_key
from tests.support.ledger import usage_of
from tests.support.processes import Pipeline, PipelineProcess, connect, pipeline
from tests.support.redis_server import RedisServer
from tests.support.simulated import MODEL, simulated_settings
from tests.support.waiting import eventually
from workers.engines.simulated_text import expected

pytestmark = [pytest.mark.timeout(300)]

REQUESTS = 2_000


@dataclass
class Case:
    """A pipeline with an API, and its client."""

    settings: Settings
    running: Pipeline
    client: httpx2.AsyncClient
    store: JobStore
    database: Database

    async def taken(self, feeder: PipelineProcess, times: int = 1) -> None:
        """Wait until a batch process has claimed a batch."""

        async def seen() -> bool:
            return feeder.output().count("batch_taken") >= times

        await eventually(seen, timeout=60)

    async def kill(self, process: PipelineProcess) -> None:
        """Kill a process (SIGKILL)."""
        process.signal(signal.SIGKILL)
        await asyncio.to_thread(process.wait)

    async def counted(self, batch_id: str, least: int) -> None:
        """Wait until at least `least` requests have their result in a part."""

        async def reached() -> bool:
            counts = (await read(self.client, batch_id))["request_counts"]
            return bool(counts["completed"] + counts["failed"] >= least)

        await eventually(reached, timeout=90)

    async def check(self, batch: dict[str, Any], count: int) -> None:
        """Each request is answered once, with the right text, and billed once."""
        assert batch["status"] == "completed", batch
        assert batch["request_counts"] == {"total": count, "completed": count, "failed": 0}
        await check_whole(self.client, batch, count)
        for one in await results(self.client, batch["output_file_id"]):
            said = one["response"]["body"]["choices"][0]["text"]
            body = {"prompt": f"say {one['custom_id']}", "max_tokens": 8, "ignore_eos": True}
            assert said == expected(body).text
        ids = {batch_ids.job_id(batch["id"], index) for index in range(count)}

        async def billed() -> bool:
            return set(await usage_of(self.database)) == ids

        await eventually(billed, timeout=60)
        await check_nothing_left(self.store, MODEL)


@pytest.fixture
def sqlite_database(sqlite_template: Path, tmp_path: Path) -> DatabaseSettings:
    file = shutil.copy(sqlite_template, tmp_path / "penstock.db")
    return DatabaseSettings(url=SecretStr(f"sqlite+aiosqlite:///{file}"))


@asynccontextmanager
async def case(
    server: RedisServer, database: DatabaseSettings, directory: Path, **batches: Any
) -> AsyncIterator[Case]:
    settings = simulated_settings(
        server,
        slots=64,
        database=database.model_dump(exclude_unset=True),
        files={"url": f"file://{directory}/files"},
        batches={"lease_seconds": 1.5, "poll_seconds": 0.1, "flush_seconds": 0.2, **batches},
        retention={"start": "archive"},
        billing={"claim_seconds": 1.0},
    )
    with pipeline(settings, directory) as running:
        key = make_key(settings)
        running.control()
        running.ledger()
        api = await asyncio.to_thread(running.api)
        store, sql = open_store(settings), Database(settings.database, "test")
        async with connect(api, key) as client:
            yield Case(settings, running, client, store, sql)
        await sql.close()
        await store.close()


async def registered(at: Case) -> PipelineProcess:
    """Start a worker; its model is known from then on."""
    return await asyncio.to_thread(at.running.worker)


async def begun(at: Case, count: int) -> tuple[dict[str, Any], PipelineProcess]:
    """Create a batch of `count` requests; return it and its batch process once it has results."""
    await registered(at)
    made = await create(at.client, lines(count, MODEL, max_tokens=8, ignore_eos=True))
    feeder = at.running.feeder()
    await at.counted(made["id"], 20)
    return made, feeder


@pytest.mark.parametrize("own_server", ["redis"], indirect=True)
async def test_a_batch_is_whole_whatever_is_killed_while_it_runs(
    own_server: RedisServer, tmp_path: Path, sqlite_database: DatabaseSettings
) -> None:
    async with case(own_server, sqlite_database, tmp_path, window=300) as at:
        victim = await registered(at)
        content = lines(REQUESTS, MODEL, max_tokens=8, ignore_eos=True)
        made = await create(at.client, content)
        # While it validates, or has just begun.
        feeder = at.running.feeder()
        await at.taken(feeder)
        await at.kill(feeder)
        # While it submits and collects.
        for least in (1, 500, 1_000):
            feeder = at.running.feeder()
            await at.counted(made["id"], least)
            await at.kill(feeder)
            await at.kill(victim)
            victim = at.running.begin_worker()
        own_server.signal(signal.SIGKILL)
        feeder = at.running.feeder()
        own_server.revive()
        batch = await until(at.client, made["id"], timeout=120)
        await at.check(batch, REQUESTS)
        ids = [batch_ids.job_id(made["id"], index) for index in range(REQUESTS)]
        await check_archived(at, ids)


async def check_archived(at: Case, ids: list[str]) -> None:
    """Check that the jobs still in Redis are complete and agree with the ledger."""
    usage = await usage_of(at.database)
    assert {usage[job_id].status for job_id in ids} == {"completed"}
    assert {usage[job_id].service_tier for job_id in ids} == {"flex"}
    assert {usage[job_id].output_tokens for job_id in ids} == {8}


async def test_a_feeder_killed_while_it_finalizes_is_followed_by_one_that_finishes(
    redis_server: RedisServer, tmp_path: Path, database_settings: DatabaseSettings
) -> None:
    async with case(redis_server, database_settings, tmp_path) as at:
        worker = await registered(at)
        worker.signal(signal.SIGSTOP)
        content = lines(40, MODEL, max_tokens=8, ignore_eos=True)
        made = await create(at.client, content)
        feeder = at.running.feeder()

        async def submitted() -> bool:
            queued = await at.store.redis.zcard(at.store.keys.queued(MODEL))
            return bool(queued + await at.store.redis.zcard(at.store.keys.running(MODEL)) >= 40)

        await eventually(submitted, timeout=30)
        # From here on the file store takes parts, and no files.
        folder = tmp_path / "files" / "files"
        folder.rename(tmp_path / "away")
        folder.write_bytes(b"in the way")
        worker.signal(signal.SIGCONT)
        batch = await until(at.client, made["id"], "finalizing", timeout=60)
        assert batch["request_counts"]["completed"] == 40

        async def held_up() -> bool:
            return "batch_held_up" in feeder.output()

        await eventually(held_up)
        await at.kill(feeder)
        folder.unlink()
        (tmp_path / "away").rename(folder)
        at.running.feeder()
        batch = await until(at.client, made["id"], timeout=60)
        await at.check(batch, 40)

        async def no_part_left() -> bool:
            return not list((tmp_path / "files" / "batches").rglob("*.jsonl"))

        await eventually(no_part_left)


async def test_a_feeder_that_only_slept_finds_its_batch_taken_and_writes_nothing(
    redis_server: RedisServer, tmp_path: Path, sqlite_database: DatabaseSettings
) -> None:
    async with case(redis_server, sqlite_database, tmp_path, window=50) as at:
        made, sleeper = await begun(at, 300)
        sleeper.signal(signal.SIGSTOP)
        heir = at.running.feeder()
        await at.taken(heir)
        sleeper.signal(signal.SIGCONT)
        batch = await until(at.client, made["id"], timeout=90)
        await at.check(batch, 300)

        async def noticed() -> bool:
            return "batch_lost" in sleeper.output()

        await eventually(noticed)


async def test_results_wait_for_sql_and_are_written_once(
    redis_server: RedisServer, tmp_path: Path, sqlite_database: DatabaseSettings
) -> None:
    async with case(redis_server, sqlite_database, tmp_path, window=50) as at:
        made, feeder = await begun(at, 200)
        async with at.database.write() as connection:  # holds SQLite's write lock
            await connection.execute(text("SELECT 1"))

            async def waits() -> bool:
                return "batch_held_up" in feeder.output()

            await eventually(waits, timeout=30)
            await at.kill(feeder)
        at.running.feeder()
        batch = await until(at.client, made["id"], timeout=90)
        await at.check(batch, 200)
