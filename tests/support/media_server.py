"""A server of media on a real socket, which can misbehave in many ways."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

PIXEL = b"\x89PNG\r\n\x1a\nnot much of a picture"


@dataclass
class MediaServer:
    """Answers every request alike; keeps their heads."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"content-type": "image/png"})
    body: bytes = PIXEL
    #: Sends the body again and again, without a length.
    endless: bool = False
    #: Takes the request, and never says a word until this is set.
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    #: Sends this instead of an answer.
    raw: bytes | None = None
    port: int = 0
    heads: list[list[str]] = field(default_factory=list)
    connections: int = 0
    most_open: int = 0
    open: set[asyncio.Task[Any]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.answers.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/a.png?signature=secret"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.open.add(task)
        self.connections += 1
        self.most_open = max(self.most_open, len(self.open))
        try:
            # Cancelled at the end of a test; asyncio's streams would log that.
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                self.heads.append(head[:-2])
                await self._answer_or_leave(reader, writer)
        finally:
            self.open.discard(task)
            writer.transport.abort()

    async def _answer_or_leave(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer when the test says so, or end when the client closes the connection."""
        answered = asyncio.create_task(self._answer(writer))
        left = asyncio.create_task(reader.read())
        await asyncio.wait((answered, left), return_when=asyncio.FIRST_COMPLETED)
        if answered.done() and not left.done():
            await left  # the client has read the answer
        for task in (answered, left):
            task.cancel()
        await asyncio.gather(answered, left, return_exceptions=True)

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        await self.answers.wait()
        if self.raw is not None:
            writer.write(self.raw)
        else:
            length = {} if self.endless else {"content-length": str(len(self.body))}
            headers = {**length, **self.headers, "connection": "close"}
            lines = [f"HTTP/1.1 {self.status} x", *(f"{k}: {v}" for k, v in headers.items())]
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + self.body)
        await writer.drain()
        while self.endless:
            writer.write(self.body)
            await writer.drain()
        writer.write_eof()


@asynccontextmanager
async def serving_media(**values: Any) -> AsyncIterator[MediaServer]:
    """Run a server for the length of a block."""
    media = MediaServer(**values)
    server = await asyncio.start_server(media.handle, "127.0.0.1", 0)
    media.port = server.sockets[0].getsockname()[1]
    try:
        yield media
    finally:
        server.close()
        for task in list(media.open):
            task.cancel()
        await asyncio.gather(*media.open, return_exceptions=True)
