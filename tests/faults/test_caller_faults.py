"""Keys during outages: a revocation takes effect within a second; no outage grants access."""

import asyncio
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import update

from accounts.account_rows import ensure_account
from accounts.api_keys import EVERYBODY, MadeKey, NewKey
from accounts.bounds import Rank
from accounts.cache_records import KEYS
from accounts.cache_scripts import open_scripts
from accounts.cache_sync import CacheSync
from accounts.cache_writer import CallerCacheWriter
from accounts.caller import Role, digest_of
from accounts.directory_factory import Directory, directory_of
from core.db.database import Database
from core.db.schema_version import upgrade
from core.db.tables.base import now
from core.runtime.child_process import free_port
from core.settings.billing import DatabaseSettings
from core.settings.tree import Settings
from jobs.store.job_store import JobStore
from jobs.store.store_factory import open_store
from tests.conftest import settings_for
from tests.support.databases import PostgresServer
from tests.support.keys import make_key, sqlite_in
from tests.support.processes import connect, pipeline
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

WITHIN = 1.0


@pytest.fixture
def settings(redis_server: RedisServer, database_settings: DatabaseSettings) -> Settings:
    return settings_for(redis_server, database=database_settings.model_dump(exclude_unset=True))


async def status(client: httpx2.AsyncClient) -> int:
    return (await client.get("/v1/me")).status_code


async def made(directory: Directory, settings: Settings, **fields: Any) -> MadeKey:
    make_key(settings)  # the account
    return await directory.keys.create("test", NewKey("acme", **fields))


def cache_of(store: JobStore) -> CallerCacheWriter:
    prefix = store.keys.prefix
    return CallerCacheWriter(store.redis, store.keys, open_scripts(store.redis, prefix))


async def in_copy(store: JobStore, secret: str) -> bool:
    return (await cache_of(store).read([digest_of(secret)]))[0] is not None


async def test_a_revoked_key_is_refused_by_every_process_within_a_second(
    settings: Settings, directory: Directory, tmp_path: Path
) -> None:
    key = await made(directory, settings)
    with pipeline(settings, tmp_path) as running:
        apis = [await asyncio.to_thread(running.api) for _ in range(2)]
        clients = [connect(api, key.secret) for api in apis]
        refused_at: list[float | None] = [None, None]
        revoked_at = 0.0

        async def ask_all_the_time(number: int) -> None:
            """Use a key constantly, so that the process remembers it as long as possible."""
            while refused_at[number] is None:
                found = await status(clients[number])
                assert found in (200, 401)
                if found == 401:
                    refused_at[number] = time.monotonic()
                await asyncio.sleep(0.02)

        requests = [asyncio.create_task(ask_all_the_time(number)) for number in range(2)]
        await asyncio.sleep(1)
        assert refused_at == [None, None]
        await directory.keys.revoke("test", key.row.id, EVERYBODY)
        revoked_at = time.monotonic()
        await asyncio.wait_for(asyncio.gather(*requests), 10)
        waits = [moment - revoked_at for moment in refused_at if moment is not None]
        assert len(waits) == 2
        assert max(waits) < WITHIN, waits
        for client in clients:
            await client.aclose()


async def test_a_copy_that_is_lost_is_made_again_and_nobody_is_refused_meanwhile(
    settings: Settings, directory: Directory, store: JobStore, tmp_path: Path
) -> None:
    key = await made(directory, settings)
    gone = await made(directory, settings)
    await directory.keys.revoke("test", gone.row.id, EVERYBODY)
    with pipeline(settings, tmp_path) as running:
        api = await asyncio.to_thread(running.api)
        async with connect(api, key.secret) as client, connect(api, gone.secret) as revoked:
            for _ in range(3):
                await store.redis.delete(store.keys.callers)
                for _ in range(20):
                    assert await status(client) == 200
                    assert await status(revoked) == 401

            async def whole() -> bool:
                return (await cache_of(store).generation())[1] and await in_copy(store, key.secret)

            await eventually(whole, 20)
            assert not await in_copy(store, gone.secret)


async def test_what_a_dead_process_did_not_copy_is_copied_by_another(
    settings: Settings, directory: Directory, store: JobStore, tmp_path: Path
) -> None:
    """The process that revokes dies between SQL and Redis."""
    key = await made(directory, settings)
    await directory.cache_sync.copy_all()
    assert await in_copy(store, key.secret)
    database = Database(settings.database, "test")
    async with database.write() as connection:
        instant = now()
        await connection.execute(
            update(KEYS)
            .where(KEYS.c.id == key.row.id)
            .values(revoked_at=instant, changed_at=instant)
        )
    await database.close()
    with pipeline(settings, tmp_path) as running:
        await asyncio.to_thread(running.api)

        async def refused() -> bool:
            return not await in_copy(store, key.secret)

        await eventually(refused, 10)


async def test_a_redis_from_a_backup_brings_no_revoked_key_back(
    settings: Settings, directory: Directory, store: JobStore
) -> None:
    key = await made(directory, settings)
    [old] = await cache_of(store).read([digest_of(key.secret)])
    assert old is not None
    await directory.keys.revoke("test", key.row.id, EVERYBODY)
    database = Database(settings.database, "test")
    long_ago = now() - timedelta(days=1)
    async with database.write() as connection:
        query = update(KEYS).where(KEYS.c.id == key.row.id)
        await connection.execute(query.values(changed_at=long_ago))
    await database.close()
    await store.redis.hset(store.keys.callers, digest_of(key.secret), old)
    await store.redis.hset(store.keys.callers, digest_of("unheard of"), old)
    await directory.cache_sync.copy_all()
    assert not await in_copy(store, key.secret)
    assert not await in_copy(store, "unheard of")


async def test_an_older_state_never_replaces_a_newer_one(
    settings: Settings, directory: Directory, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process reads a key from SQL and stalls; another revokes it; the first goes on."""
    key = await made(directory, settings)
    read, go_on = asyncio.Event(), asyncio.Event()
    cache = CallerCacheWriter(store.redis, store.keys, directory.scripts)
    replace = cache.replace

    async def stalled(generation: str, records: Any) -> bool:
        read.set()
        await go_on.wait()
        return await replace(generation, records)

    slow = CacheSync(Database(settings.database, "slow"), cache, settings.auth)
    await store.redis.hdel(store.keys.callers, digest_of(key.secret))
    monkeypatch.setattr(cache, "replace", stalled)
    copy_task = asyncio.create_task(slow.copy([digest_of(key.secret)]))
    await read.wait()
    await directory.keys.revoke("test", key.row.id, EVERYBODY)
    # The cache had no entry to remove; the stalled process must see a change all the same.
    go_on.set()
    await copy_task
    assert not await in_copy(store, key.secret)
    await slow._database.close()


async def test_many_changes_at_once_leave_the_copy_as_sql_has_it(
    settings: Settings, directory: Directory, store: JobStore
) -> None:
    keys = [await made(directory, settings) for _ in range(6)]
    async with directory_of(settings, "another") as second:

        async def change(who: Directory, key: MadeKey, name: str) -> None:
            await who.keys.change("test", key.row.id, EVERYBODY, {"name": name}, Rank.OPERATOR)

        await asyncio.gather(
            *(
                change(who, key, f"{number} {name}")
                for name, who in (("a", directory), ("b", second))
                for number, key in enumerate(keys)
            ),
            *(who.cache_sync.copy_all() for who in (directory, second)),
        )
    fields = [digest_of(key.secret) for key in keys]
    assert await cache_of(store).read(fields) == [
        (await directory.cache_sync.truth(fields))[field] for field in fields
    ]


async def test_while_sql_is_away_known_keys_work_and_unknown_ones_are_refused(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    server = PostgresServer()
    server.start()
    try:
        given = DatabaseSettings(url=server.url(), timeout_seconds=1, statement_seconds=1)
        upgrade(given)
        settings = settings_for(redis_server, database=given.model_dump(exclude_unset=True))
        key = make_key(settings)
        store = open_store(settings)
        with pipeline(settings, tmp_path) as running:
            api = await asyncio.to_thread(running.api)

            async def whole() -> bool:
                return (await cache_of(store).generation())[1]

            await eventually(whole, 20)
            await asyncio.to_thread(server.stop)
            async with connect(api, key) as client, connect(api, "pk_unknown") as unknown:
                for _ in range(3):
                    assert (await client.get("/v1/jobs")).status_code == 200
                    assert await status(unknown) == 401
                    await asyncio.sleep(0.5)
                body = {"email": "ann@example.com", "password": "correct horse battery"}
                answer = await client.post("/v1/auth/login", json=body)
                assert (answer.status_code, answer.json()["code"]) == (503, "database-unavailable")
                assert answer.json()["title"] == "Database unavailable"
                # Without the cache and SQL, no key is reported as wrong: the answer is 503.
                await store.redis.delete(store.keys.callers)
                await asyncio.sleep(1)
                for one in (client, unknown):
                    answer = await one.get("/v1/me")
                    assert answer.status_code == 503
                    assert int(answer.headers["retry-after"]) > 0
                await asyncio.to_thread(server.start)

                async def again() -> bool:
                    return await status(client) == 200

                await eventually(again, 20)
                assert await status(unknown) == 401
        await store.close()
    finally:
        server.remove()


async def test_while_redis_is_away_sql_says_who_calls(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    settings = settings_for(own_redis, database=sqlite_in(tmp_path))
    key = make_key(settings, role=Role.ADMIN)
    with pipeline(settings, tmp_path) as running:
        api = await asyncio.to_thread(running.api)
        async with connect(api, key) as client:
            revoked = (await client.post("/v1/keys", json={})).json()
            own_redis.stop()
            try:
                await asyncio.sleep(1)
                assert (await client.get("/v1/billing/invoices")).status_code == 200
                async with connect(api, "pk_unknown") as unknown:
                    assert await status(unknown) == 401
                # The key is revoked in SQL but perhaps not in every process: the answer says so.
                answer = await client.delete(f"/v1/keys/{revoked['id']}")
                assert (answer.status_code, answer.json()["code"]) == (503, "store-unavailable")
                async with connect(api, revoked["key"]) as gone:
                    assert await status(gone) == 401, "also before Redis is back"
            finally:
                own_redis.start()

            async def refused() -> bool:
                async with connect(api, revoked["key"]) as gone:
                    return await status(gone) == 401

            await eventually(refused, 20)


async def test_an_api_without_a_secret_does_not_start(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    settings = settings_for(redis_server, auth={})
    with pipeline(settings, tmp_path) as running:
        api = running.begin_api(free_port())
        assert await asyncio.to_thread(api.wait) == 2
        assert "PENSTOCK_AUTH__JWT_SECRET" in api.output()


async def test_an_account_that_exists_twice_at_once_is_made_once(
    settings: Settings, directory: Directory
) -> None:
    database = Database(settings.database, "test")
    await asyncio.gather(*(ensure_account(database, "acme") for _ in range(4)))
    await database.close()
    rows = await directory.accounts.list()
    assert [row.id for row in rows] == ["acme"]
