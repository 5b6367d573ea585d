"""Writes a stream to one client, within a time limit.

Invariant: the status and the headers are sent once, before the first byte of the body; until then
the response can still become another one.
"""

import asyncio
from collections.abc import Sequence

from starlette.types import Send


class StreamWriter:
    """Writes to the client; if a write exceeds the time limit, sets `stuck` and writes no more.

    Attributes:
        opened: Whether the status was sent.
        stuck: Whether the client does not read.
    """

    __slots__ = ("_closed", "_headers", "_held", "_seconds", "_send", "opened", "stuck")

    def __init__(self, send: Send, seconds: float, headers: Sequence[tuple[bytes, bytes]]) -> None:
        """Create a writer that has sent nothing.

        Args:
            send: The ASGI connection.
            seconds: Longest time for one write.
            headers: Headers of the response.
        """
        self._send = send
        self._seconds = seconds
        self._headers = headers
        self._held = b""
        self._closed = False
        self.opened = False
        self.stuck = False

    def hold(self, data: bytes) -> None:
        """Keep bytes until the stream is opened."""
        self._held += data

    async def open(self) -> None:
        """Send the status, the headers and what was held."""
        self.opened = True
        await self._send(
            {"type": "http.response.start", "status": 200, "headers": list(self._headers)}
        )
        await self.write(self._held)

    async def write(self, data: bytes, *, last: bool = False) -> None:
        """Send bytes; nothing after the last ones."""
        if self._closed or self.stuck or not (data or last):
            return
        self._closed = last
        timeout = asyncio.timeout(self._seconds)
        try:
            async with timeout:
                await self._send(
                    {"type": "http.response.body", "body": data, "more_body": not last}
                )
        except TimeoutError:
            if not timeout.expired():
                raise
            self.stuck = True

    async def end(self) -> None:
        """End the response."""
        await self.write(b"", last=True)
