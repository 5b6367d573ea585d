"""Streaming completions: prompts of about 50 tokens, 64 greedy output tokens each."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson

from bench.loads.http_client import HttpConnection, Streamed
from bench.servers.pipeline_servers import Servers

OUTPUT_TOKENS = 64
PATH = "/v1/completions"


def prompt(number: int) -> str:
    """Return a prompt of about 50 tokens that shares no prefix with another."""
    return (
        f"{number} boats came down the river to the mill. The water ran through the gate and "
        "turned the wheel, and the wheel turned the stone. The miller looked at the sky and said"
    )


def body(number: int, tokens: int = OUTPUT_TOKENS) -> bytes:
    """Return a streaming completion request."""
    return orjson.dumps(
        {
            "model": "penstock-tiny",
            "prompt": prompt(number),
            "max_tokens": tokens,
            "temperature": 0,
            "ignore_eos": True,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    )


class OfferedLoad:
    """Clients that each have an open connection."""

    def __init__(self, connections: list[HttpConnection]) -> None:
        self._connections = connections
        self._number = 0

    def _next(self) -> int:
        self._number += 1
        return self._number

    async def throughput(self, in_flight: int, requests: int) -> float:
        """Keep `in_flight` requests running until `requests` are done; return tokens/s."""
        left = iter(range(requests))
        done: list[Streamed] = []

        async def client(connection: HttpConnection) -> None:
            for _ in left:
                one = await connection.stream(PATH, body(self._next()))
                done.append(one)

        began = time.perf_counter()
        await asyncio.gather(*(client(c) for c in self._connections[:in_flight]))
        return sum(one.tokens for one in done) / (time.perf_counter() - began)

    async def first_token(self, requests: int) -> list[float]:
        """Send requests one after the other; return the times to the first token in ms."""
        times = []
        for _ in range(requests):
            one = await self._connections[0].stream(PATH, body(self._next(), tokens=4))
            times.append(one.first_seconds * 1000)
        return times


@asynccontextmanager
async def load(servers: Servers, clients: int) -> AsyncIterator[OfferedLoad]:
    """Open the connections and warm up the pipeline; yield the clients."""
    opened = [await HttpConnection(servers.port, servers.key).open() for _ in range(clients)]
    ready = OfferedLoad(opened)
    await ready.throughput(clients, clients * 2)
    try:
        yield ready
    finally:
        for connection in opened:
            connection.close()
