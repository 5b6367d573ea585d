"""Slow and greedy clients hold little of an API process, and delay no other client."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from api.app import create_app
from api.openapi.route_docs import BODIES
from api.server.body_limits import MODEL_ROUTES, BodyLimits
from core.settings.api import ApiSettings, LimitSettings
from core.settings.tree import Settings
from intake.permissions import TABLE
from tests.conftest import settings_for
from tests.integration.api.conftest import RunningApi
from tests.integration.api.test_wire import check_problem, read_all
from tests.support.http_client import Answer
from tests.support.keys import make_key, sqlite_in
from tests.support.machine import is_over
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually
from wire.schemas.generate import GenerateRequest
from wire.schemas.jobs import JobRequest
from wire.schemas.sampling import OpenAiBody

#: Two clients: connections come from different addresses of the loopback network.
MINE, OTHER = "127.0.0.1", "127.0.0.2"
PART = 40_000
LOGIN, JOBS = "/v1/auth/login", "/v1/jobs"
Sides = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Server:
    """One API process with small limits, and a key."""

    def __init__(self, redis: RedisServer, folder: Path, **limits: Any) -> None:
        settings = settings_for(
            redis,
            api={"port": 0},
            database=sqlite_in(folder),
            limits={"body_seconds": 60, **limits},
        )
        self.key = make_key(settings)
        self.api = RunningApi(settings)

    @asynccontextmanager
    async def connection(self, address: str = MINE) -> AsyncIterator[Sides]:
        port = int(self.api.url.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    def head(self, path: str, length: int, *, key: bool = True) -> bytes:
        lines = [f"POST {path} HTTP/1.1", "Host: x", f"Content-Length: {length}"]
        if key:
            lines.append(f"Authorization: Bearer {self.key}")
        return "\r\n".join([*lines, "", ""]).encode()

    async def get(self, path: str, address: str = MINE) -> Answer:
        async with self.connection(address) as (reader, writer):
            head = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.key}\r\n"
            writer.write(f"{head}Connection: close\r\n\r\n".encode())
            return await read_all(reader)


@contextmanager
def serving(redis: RedisServer, folder: Path, **limits: Any) -> Iterator[Server]:
    server = Server(redis, folder, **limits)
    server.api.start()
    try:
        yield server
    finally:
        server.api.stop()


async def hold(server: Server, count: int, stack: list[Sides], address: str = MINE) -> None:
    """Send a part of so many bodies and keep the connections open."""
    port = int(server.api.url.rpartition(":")[2])
    for _ in range(count):
        sides = await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))
        stack.append(sides)
        sides[1].write(server.head(JOBS, 1_000_000) + b" " * PART)
        await sides[1].drain()


async def complete(server: Server, address: str) -> Answer:
    """Send a body in two parts, which counts while the second is awaited."""
    async with server.connection(address) as (reader, writer):
        writer.write(server.head(JOBS, 2 * PART) + b" " * PART)
        await writer.drain()
        answer = asyncio.ensure_future(read_all(reader))
        await asyncio.wait({answer}, timeout=0.3)
        if not answer.done():
            writer.write(b" " * (PART - 2) + b"[]")
            writer.write_eof()
        return await answer


def test_only_requests_to_a_model_and_uploads_may_have_large_bodies() -> None:
    limits = BodyLimits(LimitSettings(), ApiSettings(), {"/v1/files": 10**9})
    document = create_app(Settings(_env_file=None)).openapi()
    large = (OpenAiBody, JobRequest, GenerateRequest)
    named = {name for name, schema in BODIES.items() if issubclass(schema, large)}
    with_model = set()
    for path, operations in document["paths"].items():
        content = operations.get("post", {}).get("requestBody", {}).get("content", {})
        reference = content.get("application/json", {}).get("schema", {}).get("$ref", "")
        if reference.rpartition("/")[2] in named:
            with_model.add(path)
    assert with_model == MODEL_ROUTES
    for route in TABLE:
        path = route.split(" ")[1]
        if path not in (*MODEL_ROUTES, "/v1/files"):
            assert limits.size(path) == 65_536, route


async def test_a_stranger_sends_little_and_a_body_is_not_awaited_before_the_key(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with serving(redis_server, tmp_path) as server:
        async with server.connection() as (reader, writer):
            writer.write(server.head(LOGIN, 70_000, key=False))
            check_problem(await first(reader), 413, "body-too-large")
        async with server.connection() as (reader, writer):
            head = b"POST /v1/auth/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            writer.write(head + b"10000\r\n" + b" " * 65_536 + b"\r\n1\r\n \r\n")
            check_problem(await first(reader), 413, "body-too-large")
        for path in (JOBS, "/v1/keys", "/v1/batches"):
            async with server.connection() as (reader, writer):
                writer.write(server.head(path, 60_000, key=False))
                assert (await first(reader)).status == 401


async def first(reader: asyncio.StreamReader) -> Answer:
    """Read an answer whose connection may stay open."""
    async with asyncio.timeout(15):
        raw = await reader.readuntil(b"\r\n\r\n")
        head = raw.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:] if line)
        lower = {name.lower(): value for name, value in headers.items()}
        body = await reader.readexactly(int(lower["content-length"]))
    return Answer(int(head[0].split()[1]), lower, body)


async def test_unfinished_bodies_of_one_address_are_bounded_and_others_go_on(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    bound = {"pending_body_bytes": 10 * PART, "pending_body_bytes_per_address": 3 * PART}
    with serving(redis_server, tmp_path, **bound) as server:
        held: list[Sides] = []
        await hold(server, 3, held)

        async def refused() -> bool:
            answer = await complete(server, MINE)
            return answer.status == 429 and answer.json["code"] == "address-busy"

        await eventually(refused, 10)
        answer = await complete(server, MINE)
        assert answer.headers["connection"] == "close"
        assert int(answer.headers["retry-after"]) >= 1
        # It is another client's own mistake that is answered, so its body was read.
        check_problem(await complete(server, OTHER), 400, "malformed-body")
        assert (await server.get("/v1/me", MINE)).status == 200, "it needs no body"
        for _, writer in held:
            writer.transport.abort()

        async def free() -> bool:
            return (await complete(server, MINE)).status == 400

        await eventually(free, 10)


async def test_unfinished_bodies_of_all_are_bounded(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    bound = {"pending_body_bytes": 4 * PART, "pending_body_bytes_per_address": 0}
    with serving(redis_server, tmp_path, **bound) as server:
        held: list[Sides] = []
        for number in range(4):
            await hold(server, 1, held, f"127.0.1.{number + 1}")

        async def refused() -> bool:
            answer = await complete(server, OTHER)
            return answer.status == 503 and answer.json["code"] == "bodies-busy"

        await eventually(refused, 10)
        began = time.monotonic()
        assert (await server.get("/v1/me", OTHER)).status == 200
        assert not is_over(began, 1)
        for _, writer in held:
            writer.transport.abort()

        async def free() -> bool:
            return (await complete(server, OTHER)).status == 400

        await eventually(free, 10)


async def test_connections_of_one_address_are_bounded_and_others_go_on(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with serving(redis_server, tmp_path, connections_per_address=5) as server:
        port = int(server.api.url.rpartition(":")[2])
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(5)]

        async def refused() -> bool:
            return (await server.get("/v1/me")).status == 429

        await eventually(refused, 10)
        answer = await server.get("/v1/me")
        check_problem(answer, 429, "address-busy")
        assert answer.headers["connection"] == "close"
        assert (await server.get("/v1/me", OTHER)).status == 200
        assert (await server.get("/health")).status == 200
        held[0][1].transport.abort()

        async def served() -> bool:
            return (await server.get("/v1/me")).status == 200

        await eventually(served, 10)
        for _, writer in held:
            writer.transport.abort()


async def test_connections_of_all_are_bounded_and_probes_are_answered(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    with serving(redis_server, tmp_path, connections=16) as server:
        port = int(server.api.url.rpartition(":")[2])
        held = [
            await asyncio.open_connection("127.0.0.1", port, local_addr=(f"127.0.1.{i}", 0))
            for i in range(1, 17)
        ]

        async def refused() -> bool:
            return (await server.get("/v1/me")).status == 503

        await eventually(refused, 10)
        check_problem(await server.get("/v1/me"), 503, "overloaded")
        assert (await server.get("/health")).status == 200
        assert (await server.get("/ready")).status == 200
        for _, writer in held:
            writer.transport.abort()
