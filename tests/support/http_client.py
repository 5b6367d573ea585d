"""A small HTTP client that submits and reconnects to streams as browsers do.

It uses raw sockets, so that a test can read slowly, disconnect or leave a stream half read.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import orjson

from tests.support.sse import SseEvent, parse_sse

RETRY_SECONDS = 0.2
ANSWER_SECONDS = 20.0
SILENCE_SECONDS = 40.0


class ServerError(Exception):
    """The API answered with an unexpected internal error."""


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


@dataclass
class Seen:
    """The events that one client received of one job, over all its connections."""

    job_id: str
    events: list[SseEvent] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    connections: int = 0
    refusals: int = 0
    done: bool = False

    @property
    def cursor(self) -> str:
        return self.events[-1].id if self.events else ""


@asynccontextmanager
async def connected(
    port: int, method: str, path: str, key: str, body: bytes = b"", **headers: str
) -> AsyncIterator[tuple[int, dict[str, str], asyncio.StreamReader]]:
    """Send one request; yields status, headers and the reader of the body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        lines = [f"{method} {path} HTTP/1.1", "Host: penstock", f"Authorization: Bearer {key}"]
        lines += ["Connection: close", f"Content-Length: {len(body)}"]
        lines += ["Content-Type: application/json"] if body else []
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items() if value]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        async with asyncio.timeout(ANSWER_SECONDS):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = [line.partition(": ") for line in head[1:] if line]
        yield int(head[0].split()[1]), {name.lower(): value for name, _, value in pairs}, reader
    finally:
        writer.transport.abort()


async def request(
    port: int, method: str, path: str, key: str, body: Any = None, **headers: str
) -> Answer:
    """Send one request and read the whole answer. Raises OSError, EOFError or TimeoutError."""
    sent = b"" if body is None else orjson.dumps(body)
    async with connected(port, method, path, key, sent, **headers) as (status, found, reader):
        async with asyncio.timeout(ANSWER_SECONDS):
            if "content-length" in found:
                return Answer(status, found, await reader.readexactly(int(found["content-length"])))
            return Answer(status, found, b"".join([part async for part in _chunks(reader)]))


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Yield chunks; a server that does not even ping for SILENCE_SECONDS counts as gone."""
    while True:
        async with asyncio.timeout(SILENCE_SECONDS):
            size = int((await reader.readuntil(b"\r\n")).strip(), 16)
            if not size:
                return
            chunk = await reader.readexactly(size + 2)
        yield chunk[:-2]


async def submit(
    ports: Callable[[], int], key: str, body: dict[str, Any], once: str
) -> tuple[str, int]:
    """Submit until it is accepted, as a client with an idempotency key; returns id and refusals."""
    refusals = 0
    while True:
        try:
            answer = await request(ports(), "POST", "/v1/jobs", key, body, Idempotency_Key=once)
        except (OSError, EOFError, TimeoutError):
            await asyncio.sleep(RETRY_SECONDS)
            continue
        if answer.status in (200, 202):
            return str(answer.json["id"]), refusals
        if answer.status >= 500 and answer.status != 503:
            raise ServerError(answer)
        assert answer.status in (429, 503), answer
        assert float(answer.headers["retry-after"]) > 0
        refusals += 1
        await asyncio.sleep(RETRY_SECONDS)


async def follow(ports: Callable[[], int], key: str, seen: Seen) -> Seen:
    """Follow a job to its end, reconnecting with the last event's id however often it takes."""
    while not seen.done:
        with suppress(OSError, EOFError, TimeoutError):
            await follow_once(ports(), key, seen)
        if not seen.done:
            await asyncio.sleep(RETRY_SECONDS)
    return seen


async def follow_once(port: int, key: str, seen: Seen) -> None:
    """Follow over one connection, until it breaks."""
    path = f"/v1/jobs/{seen.job_id}/stream"
    async with connected(port, "GET", path, key, Last_Event_ID=seen.cursor) as (
        status,
        found,
        reader,
    ):
        if status == 204:
            seen.done = True
            return
        if status in (429, 503):
            assert float(found["retry-after"]) > 0
            seen.refusals += 1
            return
        if status != 200:
            raise ServerError((status, found))
        seen.connections += 1
        rest = ""
        loop = asyncio.get_running_loop()
        async for chunk in _chunks(reader):
            whole, mark, rest = (rest + chunk.decode()).rpartition("\n\n")
            for event in parse_sse(whole + mark):
                if event.event == "done":
                    seen.done = True
                elif event.event not in ("error", ""):
                    seen.events.append(event)
                    seen.times.append(loop.time())


def numbers(events: Sequence[SseEvent]) -> list[int]:
    """Return the sequence numbers."""
    return [int(event.id) for event in events]
