"""Slow, endless or invalid HTTP clients are disconnected with a reason and delay no other."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import httpx2
import orjson
import pytest

from jobs.store.job_store import JobStore
from tests.integration.api.conftest import Keys, RunningApi, chat_body, chat_job
from tests.support.http_client import Answer
from tests.support.machine import is_over

BYTES = 4096


pytestmark = pytest.mark.settings(
    limits__header_seconds=1,
    limits__header_bytes=BYTES,
    limits__header_count=20,
    limits__body_seconds=1,
    limits__body_bytes_per_second=100_000,
    limits__prompt_characters=1000,
    limits__prompt_items=5,
)


Sides = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def connection(api: RunningApi) -> AsyncIterator[Sides]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(api.url.rpartition(":")[2]))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def read_all(reader: asyncio.StreamReader) -> Answer:
    """Read one answer and the end of the connection."""
    async with asyncio.timeout(15):
        raw = b""
        with suppress(ConnectionError):
            while received := await reader.read(65536):
                raw += received
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return Answer(int(lines[0].split()[1]), {n.lower(): v for n, v in headers.items()}, body)


async def trickle(writer: asyncio.StreamWriter, endless: bytes, seconds: float) -> None:
    """Send a byte now and then until the other side has had enough."""
    with suppress(ConnectionError):
        while True:
            for byte in endless:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(seconds)


def head(key: str, length: int, *more: str, path: str = "/v1/jobs") -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {key}", *more]
    return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()


def check_problem(answer: Answer, status: int, code: str) -> None:
    assert answer.status == status, answer
    assert answer.headers["x-request-id"].startswith("req_")
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.json["status"], answer.json["code"]) == (status, code)


async def test_headers_that_come_a_byte_at_a_time_are_cut(api: RunningApi) -> None:
    async with connection(api) as (reader, writer):
        writer.write(b"GET /health HTTP/1.1\r\nX-Slow: ")
        began = time.monotonic()
        slow = asyncio.create_task(trickle(writer, b"x", 0.1))
        check_problem(await read_all(reader), 408, "headers-timeout")
        assert time.monotonic() - began > 0.9
        assert not is_over(began, 10)
        await slow


async def test_the_second_request_of_a_connection_has_the_same_time(api: RunningApi) -> None:
    async with connection(api) as (reader, writer):
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200 OK" in await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(b'{"status":"ok"}'))
        writer.write(b"GET /health HTTP/1.1\r\n")
        check_problem(await read_all(reader), 408, "headers-timeout")


async def test_a_connection_that_says_nothing_is_closed(api: RunningApi) -> None:
    async with connection(api) as (reader, _), asyncio.timeout(10):
        with suppress(ConnectionError):
            assert await reader.read() == b""


async def test_a_body_that_comes_a_byte_at_a_time_is_cut(api: RunningApi, keys: Keys) -> None:
    async with connection(api) as (reader, writer):
        writer.write(head(keys.acme, 1000))
        slow = asyncio.create_task(trickle(writer, b"{", 0.1))
        answer = await read_all(reader)
        check_problem(answer, 408, "body-timeout")
        assert answer.headers["connection"] == "close"
        await slow


async def test_a_slow_body_on_openai_s_routes_is_refused_in_their_shape(
    api: RunningApi, keys: Keys
) -> None:
    async with connection(api) as (reader, writer):
        writer.write(head(keys.acme, 1000, path="/v1/chat/completions") + b"{")
        answer = await read_all(reader)
        assert (answer.status, answer.json["error"]["code"]) == (408, "body_timeout")


async def test_a_steady_body_is_given_its_time(
    api: RunningApi, keys: Keys, store: JobStore
) -> None:
    body = orjson.dumps(chat_job(metadata={"note": "x" * 15_000}))
    whole = body + b" " * (400_000 - len(body))
    async with connection(api) as (reader, writer):
        writer.write(head(keys.acme, len(whole), "Connection: close"))
        for first in range(0, len(whole), 25_000):  # 2 s in all, of which 1 s has no such limit
            writer.write(whole[first : first + 25_000])
            await asyncio.sleep(0.125)
        assert (await read_all(reader)).status == 202


async def test_the_rest_of_a_refused_body_is_not_waited_for(api: RunningApi) -> None:
    async with connection(api) as (reader, writer):
        writer.write(head("pk_wrong", 100_000))
        slow = asyncio.create_task(trickle(writer, b"x", 0.1))
        answer = await read_all(reader)  # returns once the connection is cut
        assert answer.status == 401
        await slow


async def test_many_slow_clients_hold_up_nobody(
    api: RunningApi, keys: Keys, client: httpx2.AsyncClient, store: JobStore
) -> None:
    async def slow() -> int:
        async with connection(api) as (reader, writer):
            writer.write(head(keys.acme, 1000) + b"{")
            return (await read_all(reader)).status

    held = [asyncio.create_task(slow()) for _ in range(100)]
    await asyncio.sleep(0.1)
    assert (await client.post("/v1/jobs", json=chat_job())).status_code == 202
    assert set(await asyncio.gather(*held)) == {408}


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /health HTTP/1.1\r\n" + b"X-A: b\r\n" * 21 + b"\r\n",
        b"GET /health HTTP/1.1\r\nX-A: " + b"x" * BYTES + b"\r\n\r\n",
        b"GET /" + b"x" * BYTES + b" HTTP/1.1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nX-A: " + b"x" * 100_000,  # and no end
    ],
    ids=["too many", "too long", "a long path", "endless"],
)
async def test_headers_beyond_their_limit_are_refused(api: RunningApi, sent: bytes) -> None:
    async with connection(api) as (reader, writer):
        writer.write(sent)
        check_problem(await read_all(reader), 431, "headers-too-large")


async def test_headers_up_to_their_limit_are_taken(api: RunningApi) -> None:
    async with connection(api) as (reader, writer):
        writer.write(
            b"GET /health HTTP/1.1\r\nConnection: close\r\n" + b"X-A: b\r\n" * 19 + b"\r\n"
        )
        assert (await read_all(reader)).status == 200


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00\x01\x00\r\n", b"HELLO\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"]
)
async def test_what_is_no_http_is_told_so(api: RunningApi, sent: bytes) -> None:
    async with connection(api) as (reader, writer):
        writer.write(sent)
        check_problem(await read_all(reader), 400, "malformed-request")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": [{"role": "user", "content": "x" * 1001}]}, "messages"),
        ({"messages": [{"role": "user", "content": "hi"}] * 6}, "messages"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}] * 5}]},
            "messages",
        ),
    ],
)
async def test_a_prompt_beyond_its_limits_is_refused(
    client: httpx2.AsyncClient, store: JobStore, body: dict[str, Any], param: str
) -> None:
    refused = await client.post("/v1/chat/completions", json=chat_body(**body))
    assert refused.status_code == 400, refused.text
    assert refused.json()["error"]["param"] == param
    job = await client.post("/v1/jobs", json=chat_job(body=chat_body(**body)))
    assert (job.status_code, job.json()["param"]) == (422, param)


@pytest.mark.parametrize("prompt", ["x" * 1001, [1] * 1001])
async def test_text_and_token_ids_are_counted_alike(
    client: httpx2.AsyncClient, store: JobStore, prompt: object
) -> None:
    refused = await client.post("/v1/completions", json={"model": "m", "prompt": prompt})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "prompt")
    fits = {"model": "m", "prompt": prompt[:1000]}
    prefer = {"Prefer": "respond-async"}
    taken = await client.post("/v1/completions", json=fits, headers=prefer)
    assert taken.status_code == 202, taken.text


ORIGIN = {"Origin": "https://app.example"}


async def test_pages_of_other_origins_may_not_call_by_default(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/v1/jobs", headers=ORIGIN)
    assert "access-control-allow-origin" not in answer.headers
    asked = ORIGIN | {"Access-Control-Request-Method": "POST"}
    assert (await client.request("OPTIONS", "/v1/jobs", headers=asked)).status_code == 405


@pytest.mark.settings(api__cors_origins=["https://app.example"])
async def test_pages_of_a_named_origin_may_call_and_read_the_headers(
    settings: Any, client: httpx2.AsyncClient, store: JobStore
) -> None:
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,idempotency-key",
    }
    allowed = await client.request("OPTIONS", "/v1/jobs", headers=ORIGIN | asked)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "https://app.example"
    answer = await client.post("/v1/jobs", json=chat_job(), headers=ORIGIN)
    assert answer.headers["access-control-allow-origin"] == "https://app.example"
    assert "X-Penstock-Job" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in answer.headers
    refused = await client.post("/v1/jobs", json={}, headers=ORIGIN)
    assert refused.status_code == 422
    assert refused.headers["access-control-allow-origin"] == "https://app.example"
    strange = {"Origin": "https://evil.example"}
    answer = await client.post("/v1/jobs", json=chat_job(), headers=strange)
    assert "access-control-allow-origin" not in answer.headers
    wrong = await client.request("OPTIONS", "/v1/jobs", headers=strange | asked)
    assert wrong.status_code == 400
