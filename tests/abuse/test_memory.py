"""Many unfinished bodies take little memory of a real API process, and delay no other client."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from core.settings.tree import Settings
from tests.conftest import settings_for
from tests.support.keys import make_key, sqlite_in
from tests.support.machine import is_over
from tests.support.processes import PipelineProcess, connect, pipeline
from tests.support.redis_server import RedisServer

CONNECTIONS = 300
BODY = 1_900_000
PIECE = 60_000
#: 300 bodies of 2 MB were 585 MB. What may be pending, twice (a body is joined), and connections.
MOST_BYTES = 100_000_000


@pytest.fixture(scope="module")
def started(
    redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[PipelineProcess, str]]:
    folder: Path = tmp_path_factory.mktemp("memory")
    settings: Settings = settings_for(redis_server, database=sqlite_in(folder))
    key = make_key(settings)
    with pipeline(settings, folder) as running:
        yield running.api(), key


async def send(port: int, head: str) -> asyncio.StreamWriter:
    """Send almost a whole body, as far as the server takes it, and leave the connection open."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head.encode())
    with suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(5):
            for _ in range(BODY // PIECE):
                writer.write(b" " * PIECE)
                await writer.drain()
    return writer


@pytest.mark.parametrize("path", ["/v1/auth/login", "/v1/jobs"])
async def test_unfinished_bodies_are_bounded_in_memory(
    started: tuple[PipelineProcess, str], path: str
) -> None:
    api, key = started
    process = psutil.Process(api.pid)
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n"
    head += f"Content-Length: {BODY + 1}\r\n\r\n"
    async with connect(api, key) as client:
        assert (await client.get("/v1/me")).status_code == 200
        before = process.memory_info().rss
        sending = [
            asyncio.create_task(send(api.settings.api.port, head)) for _ in range(CONNECTIONS)
        ]
        longest, most = 0.0, 0
        while not all(task.done() for task in sending):
            began = time.monotonic()
            assert (await client.get("/v1/me")).status_code == 200
            assert not is_over(began, 2)
            longest = max(longest, time.monotonic() - began)
            most = max(most, process.memory_info().rss - before)
        for task in sending:
            task.result().transport.abort()
    assert most < MOST_BYTES, f"{most / 1e6:.0f} MB more"
