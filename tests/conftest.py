"""Servers and stores shared by all tests. Each test has its own key prefix."""

import os
import secrets
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import hypothesis
import pytest
from pydantic import SecretStr
from pytest_timeout import Settings as TimeoutSettings
from sqlalchemy import make_url
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from accounts.directory_factory import Directory, directory_of
from core.db.database import Database
from core.db.schema_version import upgrade
from core.settings.billing import DatabaseSettings
from core.settings.tree import Settings, get_settings
from jobs.store.job_store import JobStore
from jobs.store.store_factory import open_store
from tests.support import logging_state, settings_marker, timeouts
from tests.support.databases import PostgresServer, create_database, drop_database
from tests.support.keys import template
from tests.support.redis_server import RedisServer
from tests.support.redis_server import running as redis_running
from tests.support.settings_marker import Groups

#: The secret with which API processes in tests sign tokens.
JWT_SECRET = "only for tests, and long enough for every algorithm that one of them tries"

#: Tests that may not run beside each other: real models take memory and all CPUs, and fault tests
#: measure time. Beside real models, healthy engines of fault tests were judged hung.
ONE_AT_A_TIME = ("tests/contract/", "tests/e2e/", "tests/faults/")


# No time limit per Hypothesis example; pytest-timeout limits whole tests.
hypothesis.settings.register_profile(
    "penstock", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("penstock")


class Scheduler(LoadScopeScheduling):
    """Runs a file's tests in one xdist process, and all tests of ONE_AT_A_TIME in the same one."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "one at a time" if file.startswith(ONE_AT_A_TIME) else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduler:
    """Choose how `-n` distributes tests."""
    return Scheduler(config, log)


@pytest.hookimpl(tryfirst=True, optionalhook=True)
def pytest_timeout_set_timer(item: pytest.Item, settings: TimeoutSettings) -> bool | None:
    """Give tests more time on a busy machine."""
    return timeouts.set_timer(item, settings)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Check the markers."""
    settings_marker.refuse_unread(items)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Debian's Redis 7.0, without persistence."""
    with redis_running("redis", tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """Valkey 9 from the wheel, without persistence."""
    with redis_running("valkey", tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own, without persistence."""
    with redis_running("redis", tmp_path / "redis") as server:
        yield server


@pytest.fixture(autouse=True)
def _no_stray_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the developer's own settings from the environment."""
    for name in list(os.environ):
        if name.startswith("PENSTOCK_"):
            monkeypatch.delenv(name)
    get_settings.cache_clear()


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Undo a test's changes to logging when it ends."""
    with logging_state.kept():
        yield


def settings_for(server: RedisServer, **groups: object) -> Settings:
    """Return settings for a server, with a fresh prefix; groups override."""
    values: dict[str, object] = {
        "redis": {"url": server.url, "prefix": f"t{secrets.token_hex(4)}"},
        "auth": {"jwt_secret": JWT_SECRET},
        **groups,
    }
    return Settings(_env_file=None, **values)


@pytest.fixture(params=["redis", "valkey"])
def any_server(request: pytest.FixtureRequest) -> RedisServer:
    """Each test runs on both servers."""
    server: RedisServer = request.getfixturevalue(f"{request.param}_server")
    return server


@pytest.fixture
async def directory(settings: Settings) -> AsyncIterator[Directory]:
    """Users, keys and accounts, as the test's settings have them."""
    async with directory_of(settings, "test") as opened:
        yield opened


@pytest.fixture
def marked_settings(request: pytest.FixtureRequest) -> Groups:
    """The settings of the test's markers: `@pytest.mark.settings(group__name=value)`."""
    node: pytest.Item = request.node
    return settings_marker.marked(node)


@pytest.fixture
def settings(any_server: RedisServer, marked_settings: Groups) -> Settings:
    """Default settings with a fresh key prefix."""
    return settings_for(any_server, **marked_settings)


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[JobStore]:
    """A job store on a real server."""
    opened = open_store(settings)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A PostgreSQL server: the one of TEST_DATABASE_URL, else an embedded one."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given
        return
    server = PostgresServer()
    server.start()
    yield server.url()
    server.remove()


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server for this test alone."""
    server = PostgresServer()
    server.start()
    yield server
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
    """The database of `database_settings`, opened."""
    opened = Database(database_settings, "test")
    yield opened
    await opened.close()
