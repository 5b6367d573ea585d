"""What several files of fault tests start for themselves."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.redis_server import RedisServer


@pytest.fixture(params=["redis", "valkey"])
def own_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    """A server of this test's own, with an append-only file."""
    server = RedisServer(request.param, tmp_path / "data", aof=True)
    server.start()
    yield server
    server.stop()
