"""Sends a file that is still being made, for as long as the client takes it.

Invariant: whoever does not read for `send_timeout_seconds`, or leaves, ends the making of it; a
file that broke off is cut, never ended as if it were whole.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager

import anyio
from starlette.responses import StreamingResponse
from starlette.types import Message, Send

from jobs.errors import Overloaded

RETRY_AFTER_SECONDS = 10.0


class Slots:
    """How many may be under way at once in this process."""

    def __init__(self, count: int) -> None:
        self._free = count

    @contextmanager
    def take(self) -> Iterator[None]:
        """Have one for the length of a block.

        Raises:
            Overloaded: there is none left.
        """
        if not self._free:
            raise Overloaded(
                "too many exports at once; come back when one is done",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


class Download(StreamingResponse):
    """Answers with the pieces of a generator; `begin` makes the first, which may refuse."""

    def __init__(
        self, first: bytes, pieces: AsyncGenerator[bytes, None], name: str, seconds: float
    ) -> None:
        self._pieces = pieces
        self._seconds = seconds
        headers = {"Content-Disposition": f'attachment; filename="{name}"'}
        super().__init__(_chained(first, pieces), 200, headers, "application/zip")

    @classmethod
    async def begin(
        cls, pieces: AsyncGenerator[bytes, None], name: str, seconds: float
    ) -> "Download":
        """Wait for the first piece: until then an error still has an answer of its own."""
        return cls(await anext(pieces), pieces, name, seconds)

    async def stream_response(self, send: Send) -> None:
        """Send every piece in time; let go of what makes them, however it ends."""

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(self._seconds):
                await send(message)

        try:
            await super().stream_response(send_in_time)
        finally:
            with anyio.CancelScope(shield=True):
                await self._pieces.aclose()


async def _chained(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in pieces:
        yield piece
