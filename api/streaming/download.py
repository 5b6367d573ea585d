"""Sends a file that is still being made, for as long as the client takes it.

Invariant: whoever does not read for `send_timeout_seconds`, or leaves, ends the making of it; a
file that broke off is cut, never ended as if it were whole.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from urllib.parse import quote

import anyio
from starlette.responses import StreamingResponse
from starlette.types import Message, Send


class Download(StreamingResponse):
    """Answers with the pieces of a generator; `begin` makes the first, which may refuse."""

    def __init__(
        self,
        first: bytes,
        pieces: AsyncGenerator[bytes, None],
        name: str,
        seconds: float,
        media_type: str,
        size: int | None,
    ) -> None:
        self._pieces = pieces
        self._seconds = seconds
        headers = {"Content-Disposition": _attached(name)}
        if size is not None:
            headers["Content-Length"] = str(size)
        super().__init__(_chained(first, pieces), 200, headers, media_type)

    @classmethod
    async def begin(
        cls,
        pieces: AsyncGenerator[bytes, None],
        name: str,
        seconds: float,
        media_type: str = "application/zip",
        size: int | None = None,
    ) -> "Download":
        """Wait for the first piece: until then an error still has an answer of its own."""
        return cls(await anext(pieces), pieces, name, seconds, media_type, size)

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


def _attached(name: str) -> str:
    """Return the header that names a file, as RFC 6266 says where it is not plain ASCII."""
    encoded = quote(name, safe="")
    return (
        f"attachment; filename*=utf-8''{encoded}"
        if encoded != name
        else (f'attachment; filename="{name}"')
    )


async def _chained(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for piece in pieces:
        yield piece
