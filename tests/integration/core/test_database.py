"""Every query of a serving process has a time limit, even on a frozen server."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from psycopg.errors import QueryCanceled
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from core.db.database import Database
from core.errors import DatabaseUnavailable
from core.settings.billing import DatabaseSettings
from tests.support.databases import PostgresServer
from tests.support.waiting import eventually

SLEEP = text("SELECT pg_sleep(1.5)")


@pytest.fixture
def bounds(own_postgres: PostgresServer) -> DatabaseSettings:
    """Settings with short time limits."""
    url = SecretStr(own_postgres.url())
    return DatabaseSettings(url=url, timeout_seconds=0.5, statement_seconds=0.5, connections=2)


@pytest.fixture
async def database(bounds: DatabaseSettings) -> AsyncIterator[Database]:
    opened = Database(bounds, "test")
    yield opened
    await opened.close()


async def answers(database: Database) -> bool:
    """Say whether a short query is answered."""
    try:
        async with database.read() as connection:
            return bool(await connection.scalar(text("SELECT 1")))
    except DatabaseUnavailable:
        return False


async def test_a_statement_that_takes_too_long_is_given_up_by_the_server(
    database: Database,
) -> None:
    with pytest.raises(DatabaseUnavailable) as refused:
        async with database.read() as connection:
            await connection.execute(SLEEP)
    cause = refused.value.__cause__
    assert isinstance(cause, DBAPIError)
    assert isinstance(cause.orig, QueryCanceled)


async def test_what_may_take_long_says_so(database: Database, bounds: DatabaseSettings) -> None:
    async with database.read(long=True) as connection:
        await connection.execute(SLEEP)
    unbounded = Database(bounds, "test", bounded=False)
    async with unbounded.write() as connection:
        await connection.execute(SLEEP)
    await unbounded.close()


async def test_a_frozen_server_is_given_up_at_every_step_and_used_again_when_it_goes_on(
    database: Database, own_postgres: PostgresServer
) -> None:
    async with asyncio.timeout(30):
        async with database.read() as kept:  # one in use, one idle
            assert await answers(database)
            own_postgres.freeze()
            try:
                with pytest.raises(DBAPIError):
                    await kept.execute(text("SELECT 1"))
                assert not await answers(database)  # a ping
                assert not await answers(database)  # a new connection
                with pytest.raises(DatabaseUnavailable):
                    async with database.write() as connection:
                        await connection.execute(text("SELECT 1"))
            finally:
                own_postgres.thaw()
        await eventually(lambda: answers(database))


async def write_and(database: Database, happen: Callable[[], None]) -> None:
    """Write something, and let something happen before it is committed."""
    async with database.write() as connection:
        await connection.execute(text("CREATE TABLE t (a int)"))
        happen()


async def test_a_server_that_freezes_in_mid_transaction_is_given_up(
    database: Database, own_postgres: PostgresServer
) -> None:
    async with asyncio.timeout(30):
        try:
            with pytest.raises(DatabaseUnavailable):
                await write_and(database, own_postgres.freeze)
        finally:
            own_postgres.thaw()
        await eventually(lambda: answers(database))
