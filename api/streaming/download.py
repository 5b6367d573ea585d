"""Sends a file while it is being generated.

Invariant: if the client disconnects or does not read for `send_timeout_seconds`, the generator is
closed. A file whose generation failed is truncated, so that the client notices; it never ends like
a complete one.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from urllib.parse import quote

import anyio
from starlette.responses import StreamingResponse
from starlette.types import Message, Send


class Download(StreamingResponse):
    """A response with the pieces of a generator; create it with `begin`."""

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
        headers = {"Content-Disposition": _content_disposition(name)}
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
        """Wait for the first piece, so that an error before it can still become a problem response.

        Args:
            pieces: Generates the file.
            name: File name for the client.
            seconds: Longest time for sending one piece.
            media_type: Content type of the file.
            size: Size in bytes, if known.
        """
        return cls(await anext(pieces), pieces, name, seconds, media_type, size)

    async def stream_response(self, send: Send) -> None:
        """Send each piece within the time limit; close the generator at the end."""

        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(self._seconds):
                await send(message)

        try:
            await super().stream_response(send_in_time)
        finally:
            with anyio.CancelScope(shield=True):
                await self._pieces.aclose()


def _content_disposition(name: str) -> str:
    """Build Content-Disposition; RFC 6266 encoding for names beyond plain ASCII."""
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
