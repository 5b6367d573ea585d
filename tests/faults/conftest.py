"""Fixtures shared by several files of fault tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.redis_server import RedisServer
from tests.support.redis_server import running as redis_running


@pytest.fixture(params=["redis", "valkey"])
def own_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis server for this test alone, with an append-only file."""
    with redis_running(request.param, tmp_path / "data", aof=True) as server:
        yield server
