"""Backup and restore: one consistent set, verified, never half, and a pipeline that goes on."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import SecretStr
from sqlalchemy import func, select

from billing.months import month_of
from cli.backup.backup_set import MANIFEST, PARTIAL
from cli.backup.run import make_backup, restore
from cli.backup.sql_data import TABLES
from cli.terminal.failures import Failure
from core.db.database import Database
from core.db.tables.metadata import metadata
from core.errors import StoreUnavailable
from core.settings.billing import DatabaseSettings
from core.settings.tree import Settings
from files.errors import FilesUnavailable
from files.object_store import ObjectStore
from jobs.status import Status
from jobs.store.job_store import JobStore
from jobs.store.store_factory import open_store
from jobs.store.transitions import Ending
from tests.conftest import on_sqlite, settings_for
from tests.support import reconciliation
from tests.support.commands import PENSTOCK, penstock, started
from tests.support.databases import create_database, drop_database
from tests.support.environment import inherited
from tests.support.jobs import QUEUE, submission, write
from tests.support.keys import make_key
from tests.support.ledger import a_price, consuming, end_jobs, until_consumed
from tests.support.months import a_past_price, an_account, close, usage_entry, used
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

PAUSE = 10.0


def quiet(_: str) -> None:
    """Show no progress."""


def environment(settings: Settings) -> dict[str, str]:
    """Return the variables that lead a command to an installation."""
    return {
        "PENSTOCK_REDIS__URL": settings.redis.url.get_secret_value(),
        "PENSTOCK_REDIS__PREFIX": settings.redis.prefix,
        "PENSTOCK_DATABASE__URL": settings.database.url.get_secret_value(),
        "PENSTOCK_FILES__URL": settings.files.url.get_secret_value(),
    }


def installation(server: RedisServer, database: DatabaseSettings, files: Path) -> Settings:
    return settings_for(
        server,
        database={"url": database.url.get_secret_value()},
        files={"url": f"file://{files}"},
        retention={"start": "archive"},
    )


@pytest.fixture
def source(
    redis_server: RedisServer, database_settings: DatabaseSettings, tmp_path: Path
) -> Settings:
    """The installation that is backed up."""
    return installation(redis_server, database_settings, tmp_path / "from")


@pytest.fixture
def target(
    valkey_server: RedisServer,
    database_kind: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> Iterator[Settings]:
    """An empty installation with another server, another prefix and another database."""
    if database_kind == "sqlite":
        yield installation(valkey_server, on_sqlite(tmp_path / "to.db"), tmp_path / "to")
        return
    url = create_database(request.getfixturevalue("postgres_url"))
    yield installation(valkey_server, DatabaseSettings(url=SecretStr(url)), tmp_path / "to")
    drop_database(url)


async def fill(settings: Settings, store: JobStore, database: Database) -> dict[str, list[str]]:
    """Leave jobs in every state, a file, and usage on both sides of the outbox."""
    await a_price(database)
    recorded = await end_jobs(store, 3)
    async with consuming(store, database):
        await until_consumed(store)
    in_outbox = await end_jobs(store, 2)
    running = [(await store.submit(submission())).id for _ in range(2)]
    for job in await store.claim(QUEUE, "w1", 2):
        await write(store, job, job.seq, [7, 8])
    back = [(await store.submit(submission())).id]
    (claimed,) = await store.claim(QUEUE, "w1", 1)
    await store.requeue(claimed.id, claimed.fence, None, counted=False)
    await store.claim(QUEUE, "w1", 1)
    queued = [(await store.submit(submission(prompt="\u00e9\u4e16 \x00"))).id for _ in range(4)]
    await ObjectStore(settings.files).put_bytes("files/file_1", b"\x00\xff lines\n" * 1000)
    return {
        "recorded": recorded,
        "in_outbox": in_outbox,
        "running": running + back,
        "queued": queued,
    }


async def finish_all(store: JobStore, left: int) -> None:
    """Act as the sweeper and the workers of a restored pipeline."""
    redis: Any = store.redis
    for job_id in await redis.zrange(store.keys.running(QUEUE), 0, -1):
        await redis.zadd(store.keys.running(QUEUE), {job_id: 1})
    for _ in range(50):
        if not left:
            return
        await store.sweep(QUEUE)
        for job in await store.claim(QUEUE, "new", 10):
            await write(
                store,
                job,
                job.seq,
                [9],
                output_tokens=job.output_tokens + 1,
                ending=Ending(Status.COMPLETED),
            )
            left -= 1
    raise AssertionError(f"{left} jobs were not completed")


async def counts(settings: Settings) -> dict[str, int]:
    database = Database(settings.database, "test")
    found = {}
    async with database.read() as connection:
        for table in metadata.sorted_tables:
            number = await connection.scalar(select(func.count()).select_from(table))
            found[table.name] = number or 0
    await database.close()
    return found


async def test_a_restored_pipeline_completes_its_jobs_and_the_books_agree(
    source: Settings, target: Settings, tmp_path: Path
) -> None:
    await asyncio.to_thread(make_key, source, "acme")
    store, database = open_store(source), Database(source.database, "test")
    jobs = await fill(source, store, database)
    manifest = await make_backup(source, tmp_path / "set", PAUSE, quiet)
    assert manifest.missing == []
    # What happens after the backup is not in it.
    await store.submit(submission())
    await store.close()
    await database.close()

    await restore(target, tmp_path / "set", quiet, force=False)
    assert await counts(target) == await counts(source)
    read = await ObjectStore(target.files).read("files/file_1", 0, 4)
    assert read == b"\x00\xff l"
    store, database = open_store(target), Database(target.database, "test")
    try:
        assert (await store.observe(QUEUE)).running == 3
        open_jobs = jobs["running"] + jobs["queued"]
        body = (await store.get(jobs["queued"][0], "acme")).spec.body
        assert body["prompt"] == "\u00e9\u4e16 \x00"
        await finish_all(store, len(open_jobs))
        async with consuming(store, database):
            await until_consumed(store)
        rows = await reconciliation.look(store, database, month_of(datetime.now(UTC)))
        assert rows.clean, rows.listed
        assert rows.compared["live jobs"] == sum(map(len, jobs.values()))
        for job in open_jobs:
            assert (await store.get(job, "acme")).status == "completed"
        await store.submit(submission())
    finally:
        await store.close()
        await database.close()


async def test_closed_months_invoices_and_numbering_are_restored(
    source: Settings, target: Settings, tmp_path: Path
) -> None:
    database = Database(source.database, "test")
    await an_account(database)
    await a_past_price(database)
    await used(database, usage_entry())
    await close(database)
    await database.close()
    await make_backup(source, tmp_path / "set", PAUSE, quiet)
    await restore(target, tmp_path / "set", quiet, force=False)
    before, after = await counts(source), await counts(target)
    assert before == after
    assert after["invoice_lines"] > 0
    assert after["spending"] > 0
    for settings in (source, target):
        database = Database(settings.database, "test")
        async with database.read() as connection:
            rows = {
                table.name: (
                    await connection.execute(select(table).order_by(*table.primary_key))
                ).all()
                for table in (*TABLES, metadata.tables["spending"])
            }
        await database.close()
        if settings is source:
            expected = rows
    assert rows == expected
    # New rows are numbered after the restored ones.
    assert await asyncio.to_thread(make_key, target, "acme")


async def test_a_damaged_set_is_refused_before_anything_is_written(
    source: Settings, target: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "set"
    store = open_store(source)
    await store.submit(submission())
    await store.close()
    await make_backup(source, folder, PAUSE, quiet)
    manifest = orjson.loads((folder / MANIFEST).read_bytes())
    for part in (*[part["name"] for part in manifest["parts"]][:3], MANIFEST):
        path = folder / part
        whole = path.read_bytes()
        for damaged in (whole[:-1], bytes([whole[0] ^ 1]) + whole[1:], None):
            if damaged is None:
                path.unlink()
            else:
                path.write_bytes(damaged)
            with pytest.raises(Failure, match=r"damaged|missing|no backup"):
                await restore(target, folder, quiet, force=True)
            path.write_bytes(whole)
    await restore(target, folder, quiet, force=False)


async def test_what_is_there_is_not_overwritten_unless_forced(
    source: Settings, target: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "set"
    store = open_store(source)
    kept = (await store.submit(submission())).id
    await store.close()
    await make_backup(source, folder, PAUSE, quiet)
    await restore(target, folder, quiet, force=False)
    with pytest.raises(Failure, match="Redis has keys"):
        await restore(target, folder, quiet, force=False)
    there = open_store(target)
    newer = (await there.submit(submission())).id
    await restore(target, folder, quiet, force=True)
    assert not await there.redis.exists(there.keys.job(newer))
    assert (await there.get(kept, "acme")).status == "queued"
    await there.close()
    with pytest.raises(Failure, match="exists already"):
        await make_backup(source, folder, PAUSE, quiet)


async def test_a_backup_that_fails_leaves_no_set(
    source: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: object) -> None:
        raise FilesUnavailable("the store is away", retry_after_seconds=1)

    monkeypatch.setattr("cli.backup.run.dump_files", broken)
    folder = tmp_path / "set"
    with pytest.raises(FilesUnavailable):
        await make_backup(source, folder, PAUSE, quiet)
    assert not folder.exists()
    half = folder.with_name(folder.name + PARTIAL)
    with pytest.raises(Failure, match="did not finish"):
        await restore(source, half, quiet, force=True)
    monkeypatch.undo()
    await make_backup(source, folder, PAUSE, quiet)
    assert not half.exists()


async def test_writes_wait_while_redis_is_read_and_go_on_afterwards(
    source: Settings, tmp_path: Path
) -> None:
    store = open_store(source)
    for _ in range(200):
        await store.submit(submission())
    backing_up = asyncio.create_task(make_backup(source, tmp_path / "set", PAUSE, quiet))
    submitted = 0
    while not backing_up.done():
        await store.submit(submission())
        submitted += 1
    manifest = await backing_up
    assert submitted
    assert manifest.records("redis") > 200
    with pytest.raises(Failure, match="not be consistent"):
        await make_backup(source, tmp_path / "short", 0.000_001, quiet)
    assert not (tmp_path / "short").exists()
    await store.submit(submission())
    await store.close()


async def test_a_killed_backup_leaves_nothing_that_looks_whole(
    own_redis: RedisServer,  # it stays paused for a while, which other tests must not meet
    database_settings: DatabaseSettings,
    target: Settings,
    tmp_path: Path,
) -> None:
    source = installation(own_redis, database_settings, tmp_path / "from")
    store = open_store(source)
    for _ in range(300):
        await store.submit(submission(prompt="x" * 10_000))
    await store.close()
    half = tmp_path / f"set{PARTIAL}"
    process = started(
        [str(PENSTOCK), "backup", str(tmp_path / "set")],
        tmp_path / "backup.log",
        **environment(source),
    )

    async def begun() -> bool:
        return half.exists()

    await eventually(begun, 30)
    process.kill()
    if not (tmp_path / "set").exists():
        with pytest.raises(Failure, match="did not finish"):
            await restore(target, half, quiet, force=False)
    store = open_store(source)

    async def accepted() -> bool:
        try:
            await store.submit(submission())
        except StoreUnavailable:  # after `redis.timeout_seconds`, while writes are paused
            return False
        return True

    await eventually(accepted, PAUSE + 5)  # the pause ends by itself
    await store.close()
    await make_backup(source, tmp_path / "again", PAUSE, quiet)


def test_the_commands_say_what_they_did(source: Settings, target: Settings, tmp_path: Path) -> None:
    make_key(source, "acme")
    made = penstock("backup", "set", directory=tmp_path, env=inherited() | environment(source))
    assert made.returncode == 0, made.stderr
    assert "rows" in made.stdout
    mode = (tmp_path / "set").stat().st_mode
    assert mode & 0o077 == 0, "a backup holds prompts and secrets"
    done = penstock("restore", "set", directory=tmp_path, env=inherited() | environment(target))
    assert done.returncode == 0, done.stderr
    again = penstock("restore", "set", directory=tmp_path, env=inherited() | environment(target))
    assert (again.returncode, "there is something already" in again.stderr) == (1, True)
