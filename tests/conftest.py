"""Servers and stores shared by all tests. Each test gets a key prefix of its own."""

import secrets
from collections.abc import AsyncIterator, Iterator

import pytest

from jobs.open import open_store
from jobs.settings import Settings, get_settings
from jobs.store import JobStore
from tests.support.redis_server import RedisServer


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
    import os

    for name in list(os.environ):
        if name.startswith("PENSTOCK_"):
            monkeypatch.delenv(name)
    get_settings.cache_clear()


def settings_for(server: RedisServer, **groups: object) -> Settings:
    """Return settings for a server, with a fresh prefix; groups override."""
    values: dict[str, object] = {
        "redis": {"url": server.url, "prefix": f"t{secrets.token_hex(4)}"},
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
