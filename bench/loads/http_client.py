"""A minimal HTTP/1.1 client, because a full one would use most of the measured CPU time."""

import asyncio
import time
from dataclasses import dataclass

import orjson


@dataclass(frozen=True, slots=True)
class Streamed:
    """One streamed completion: seconds to the first token and to the end, and its tokens."""

    first_seconds: float
    seconds: float
    tokens: int


class HttpConnection:
    """One keep-alive connection to the API."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._key = key
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def open(self) -> "HttpConnection":
        """Connect."""
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", self._port, limit=1 << 20
        )
        return self

    def close(self) -> None:
        """Disconnect."""
        self._writer.close()

    async def _send(self, path: str, body: bytes) -> int:
        head = (
            f"POST {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {self._key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        if self._reader.at_eof():
            await self.open()  # the server closes connections that were idle for a while
        self._writer.write(head.encode() + body)
        status = await self._reader.readline()
        return int(status.split()[1])

    async def post(self, path: str, body: bytes) -> int:
        """Send one request, read the whole answer, return its status."""
        status = await self._send(path, body)
        length = 0
        while (line := await self._reader.readline()) != b"\r\n":
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        await self._reader.readexactly(length)
        return status

    async def stream(self, path: str, body: bytes) -> Streamed:
        """Send a streaming completion and read it to `[DONE]`.

        Raises:
            RuntimeError: the server refused it or the stream ended early.
        """
        began = time.perf_counter()
        status = await self._send(path, body)
        if status != 200:
            raise RuntimeError(f"{path} answered {status}: {await self._reader.read(2000)!r}")
        await self._reader.readuntil(b"\r\n\r\n")
        first = 0.0
        tail = b""
        while b"data: [DONE]" not in tail:
            chunk = await self._reader.read(1 << 16)
            if not chunk:
                raise RuntimeError("the stream ended early")
            if not first and b'"text":"' in chunk:
                first = time.perf_counter() - began
            tail = (tail + chunk)[-4096:]
        usage = tail[tail.rindex(b'"usage":{') + 8 :]
        tokens = orjson.loads(usage[: _object_end(usage)])["completion_tokens"]
        await self._finish_chunked(tail)
        return Streamed(first, time.perf_counter() - began, tokens)

    async def _finish_chunked(self, tail: bytes) -> None:
        while not tail.endswith(b"0\r\n\r\n"):
            chunk = await self._reader.read(1 << 16)
            if not chunk:
                raise RuntimeError("the chunked body was not terminated")
            tail += chunk


def _object_end(text: bytes) -> int:
    depth = 0
    for index, byte in enumerate(text):
        depth += (byte == 0x7B) - (byte == 0x7D)
        if depth == 0:
            return index + 1
    raise RuntimeError("no usage in the last chunk")
