"""A receiver of webhooks on a real socket, which can misbehave in many ways."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
from standardwebhooks.webhooks import Webhook

Write = Callable[[asyncio.StreamWriter], Any]


@dataclass(frozen=True)
class Got:
    """One delivery as it was received."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def told(self) -> Any:
        return orjson.loads(self.body)

    def verify(self, secret: str) -> Any:
        """Check the signature as a receiver does; raise if it is wrong."""
        return Webhook(secret).verify(self.body, self.headers)


@dataclass
class Receiver:
    """Keeps its deliveries; answers with its statuses in turn, and then with the last one."""

    statuses: list[int]
    headers: dict[str, str] = field(default_factory=dict)
    got: list[Got] = field(default_factory=list)
    port: int = 0
    scheme: str = "http"
    host: str = "127.0.0.1"
    #: Takes the connection and the delivery, and never says a word.
    silent: bool = False
    #: Closes the connection instead of answering.
    rude: bool = False
    #: Sends this after the head, again and again.
    drip: bytes = b""
    #: Sends this instead of an answer.
    raw: bytes | None = None
    connections: int = 0
    open: set[asyncio.Task[Any]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.port}/hook"

    @property
    def ids(self) -> list[str]:
        return [one.id for one in self.got]

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.open.add(task)
        self.connections += 1
        try:
            # Cancelled at the end of a test; asyncio's streams would log that.
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self.answer(reader, writer)
        finally:
            self.open.discard(task)
            writer.transport.abort()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = [line.partition(": ") for line in head[1:] if line]
        headers = {name.lower(): value for name, _, value in pairs}
        body = await reader.readexactly(int(headers["content-length"]))
        self.got.append(Got(head[0].split()[1], headers, body))
        if self.silent:
            await reader.read()  # until the sender has given up
            return
        if self.rude:
            return
        if self.raw is not None:
            writer.write(self.raw)
        else:
            status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
            lines = [f"HTTP/1.1 {status} x", *(f"{k}: {v}" for k, v in self.headers.items())]
            lines += ["connection: close", *([] if self.drip else ["content-length: 0"])]
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
        await writer.drain()
        while self.drip:
            writer.write(self.drip)
            await writer.drain()
            await asyncio.sleep(0.01)
        writer.write_eof() if writer.can_write_eof() else None
        await reader.read()


@asynccontextmanager
async def receiving(
    *statuses: int, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Receiver]:
    """Run a receiver for the length of a block."""
    receiver = Receiver(list(statuses) or [204])
    server = await asyncio.start_server(receiver.handle, host, 0, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    receiver.scheme = "https" if tls else "http"
    try:
        yield receiver
    finally:
        server.close()
        for task in list(receiver.open):
            task.cancel()
        await asyncio.gather(*receiver.open, return_exceptions=True)
