"""Servers and stores shared by all tests. Each test gets a key prefix of its own."""

import os
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import make_url
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from core.db.engine import Database
from core.db.schema_version import upgrade
from core.settings.billing import DatabaseSettings
from core.settings.tree import Settings, get_settings
from jobs.store.factory import open_store
from jobs.store.job_store import JobStore
from tests.support.databases import PostgresServer, create_database, drop_database
from tests.support.keys import template
from tests.support.redis_server import RedisServer

#: What the API processes of tests sign tokens with.
JWT_SECRET = "only for tests, and long enough for every algorithm that one of them tries"

#: Tests that kill processes, count seconds or load a real model: never two of them at once.
ONE_AT_A_TIME = ("tests/contract/", "tests/e2e/", "tests/faults/")


class Scheduler(LoadScopeScheduling):
    """Keeps what shares fixtures, or must not meet, in one of pytest-xdist's processes."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "one at a time" if file.startswith(ONE_AT_A_TIME) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduler:
    """Say what goes where under `-n`."""
    return Scheduler(config, log)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Debian's Redis 7.0, without persistence."""
    server = RedisServer("redis", tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Valkey 9 from the wheel, without persistence."""
    server = RedisServer("valkey", tmp_path_factory.mktemp("valkey"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _no_stray_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests say what they set; the developer's environment does not."""
    for name in list(os.environ):
        if name.startswith("PENSTOCK_"):
            monkeypatch.delenv(name)
    get_settings.cache_clear()


def settings_for(server: RedisServer, **groups: object) -> Settings:
    """Return settings for a server, with a fresh prefix; groups override."""
    values: dict[str, object] = {
        "redis": {"url": server.url, "prefix": f"t{secrets.token_hex(4)}"},
        "auth": {"jwt_secret": JWT_SECRET},
        **groups,
    }
    return Settings(_env_file=None, **values)  # type: ignore[call-arg, arg-type]


@pytest.fixture(params=["redis", "valkey"])
def any_server(request: pytest.FixtureRequest) -> RedisServer:
    """Each test runs on both servers."""
    server: RedisServer = request.getfixturevalue(f"{request.param}_server")
    return server


@pytest.fixture
def settings(any_server: RedisServer) -> Settings:
    """Default settings on a prefix of their own."""
    return settings_for(any_server)


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[JobStore]:
    """A job store on a real server."""
    opened = open_store(settings)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server: that of TEST_DATABASE_URL, else one of our own."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given
        return
    server = PostgresServer()
    server.start()
    yield server.url()
    server.remove()


@pytest.fixture(scope="session")
def sqlite_template() -> Path:
    """A SQLite file with all tables, to be copied."""
    return template()


@pytest.fixture(scope="session")
def postgres_template(postgres_url: str) -> Iterator[str]:
    """The name of a PostgreSQL database with all tables, to be copied."""
    url = create_database(postgres_url)
    upgrade(DatabaseSettings(url=SecretStr(url)))
    yield str(make_url(url).database)
    drop_database(url)


def on_sqlite(path: Path) -> DatabaseSettings:
    """Return the settings of a SQLite file."""
    return DatabaseSettings(url=SecretStr(f"sqlite+aiosqlite:///{path}"))


@pytest.fixture(params=["sqlite", "postgresql"])
def database_kind(request: pytest.FixtureRequest) -> str:
    """Each test with a database runs on both kinds."""
    return str(request.param)


@pytest.fixture
def empty_database(
    database_kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[DatabaseSettings]:
    """An empty database of the test's own."""
    if database_kind == "sqlite":
        yield on_sqlite(tmp_path / "penstock.db")
        return
    url = create_database(request.getfixturevalue("postgres_url"))
    yield DatabaseSettings(url=SecretStr(url))
    drop_database(url)


@pytest.fixture
def database_settings(
    database_kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[DatabaseSettings]:
    """A database of the test's own with all tables: a copy, as migrating takes far longer."""
    if database_kind == "sqlite":
        file = tmp_path / "penstock.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), file)
        yield on_sqlite(file)
        return
    template = request.getfixturevalue("postgres_template")
    url = create_database(request.getfixturevalue("postgres_url"), template)
    yield DatabaseSettings(url=SecretStr(url))
    drop_database(url)


@pytest.fixture
async def database(database_settings: DatabaseSettings) -> AsyncIterator[Database]:
    """The same, opened."""
    opened = Database(database_settings, "test")
    yield opened
    await opened.close()
