"""A TCP proxy between processes and a server, which can break its connections.

It runs on its own loop and thread. Invariant: bytes are only delayed, or lost together
with their connection, as on a real network; never altered or reordered.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

CHUNK = 65_536


class _Pair:
    """One client connection and its counterpart at the server."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.sides = (client, server)
        self.dark = False
        self.muted = False

    def mute(self) -> None:
        """Send FIN to the client; what it still sends goes on to the server."""
        self.muted = True
        self.sides[0].write_eof()

    def reset(self) -> None:
        for side in self.sides:
            _abort(side)


def _abort(side: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN."""
    sock = side.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    side.transport.abort()


class Proxy:
    """Listens on a port of its own and passes everything on to `target_port`."""

    def __init__(self, target_port: int) -> None:
        self.port = 0
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._pairs: set[_Pair] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._latency = 0.0
        self._light = asyncio.Event()
        self._light.set()
        self._shut = False
        self.connections = 0

    @property
    def url(self) -> str:
        """Return where clients of a Redis behind this proxy connect."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()
        self.port = self._call(self._listen())

    def stop(self) -> None:
        """Drop everything."""
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    # --- faults, from any thread ------------------------------------------------------

    def reset(self, share: float = 1.0) -> int:
        """Reset this share of the open connections, the oldest first; returns how many."""
        return self._call(self._hurt(share, _Pair.reset))

    def half_close(self) -> int:
        """Send FIN to every client while the server keeps its side open."""
        return self._call(self._hurt(1.0, _Pair.mute))

    def darken(self, share: float = 1.0) -> int:
        """Stop passing data on open connections, without closing them; new ones work."""

        def darken(pair: _Pair) -> None:
            pair.dark = True

        return self._call(self._hurt(share, darken))

    def black_hole(self, on: bool) -> None:
        """Stop passing data on all connections, old and new; False ends it."""
        self._loop.call_soon_threadsafe(self._light.clear if on else self._light.set)

    def refuse(self, on: bool) -> None:
        """Close all connections and each new one immediately; False ends it."""
        self._call(self._set("_shut", on))
        if on:
            self.reset()

    def retarget(self, port: int) -> None:
        """Pass new connections on to another port; old ones stay where they are."""
        self._call(self._set("_target_port", port))

    def delay(self, seconds: float) -> None:
        """Delay each chunk by this time, in both directions."""
        self._call(self._set("_latency", seconds))

    # --- on the loop ------------------------------------------------------------------

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _set(self, name: str, value: float) -> None:
        setattr(self, name, value)

    async def _hurt(self, share: float, how: Callable[[_Pair], None]) -> int:
        pairs = [pair for pair in self._pairs if not pair.dark and not pair.muted]
        chosen = pairs[: round(len(pairs) * share)]
        for pair in chosen:
            if not pair.sides[0].is_closing():
                how(pair)
        return len(chosen)

    async def _listen(self) -> int:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def _close(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            if self._shut:
                _abort(client)
                return
            await self._carry(reader, client)
        except asyncio.CancelledError:
            _abort(client)  # the proxy stops; asyncio's streams log a cancelled handler
        finally:
            self._tasks.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            back, server = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            _abort(client)
            return
        pair = _Pair(client, server)
        self._pairs.add(pair)
        try:
            await asyncio.gather(self._pass(pair, reader, server), self._pass(pair, back, client))
        except OSError:
            pair.reset()
        finally:
            self._pairs.discard(pair)
            for side in pair.sides:
                side.transport.abort()

    async def _pass(
        self, pair: _Pair, source: asyncio.StreamReader, sink: asyncio.StreamWriter
    ) -> None:
        while data := await source.read(CHUNK):
            if self._latency:
                await asyncio.sleep(self._latency)
            await self._light.wait()
            if pair.dark or (pair.muted and sink is pair.sides[0]):
                continue
            sink.write(data)
            await sink.drain()
        if sink.can_write_eof() and not sink.is_closing() and not pair.dark and not pair.muted:
            sink.write_eof()
