"""A connection to PostgreSQL that gives up on a server that no longer answers.

A frozen server keeps its connections, and its kernel still acknowledges what it receives, so no
TCP timeout ends the wait. Invariant: every wait (ping, statement, rollback) ends after `seconds`,
and the connection with it.
"""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from psycopg import AsyncConnection, Error


class _Bounded(AsyncConnection[Any]):
    limit: float

    async def wait(self, *args: Any, **options: Any) -> Any:
        watchdog = asyncio.get_running_loop().call_later(self.limit, self._cut)
        try:
            return await super().wait(*args, **options)
        finally:
            watchdog.cancel()

    def _cut(self) -> None:
        """Shut the socket down under its waiter; a cancellation would wait for the server."""
        with (
            suppress(Error, OSError),
            socket.socket(fileno=os.dup(self.pgconn.socket)) as way,
        ):
            way.shutdown(socket.SHUT_RDWR)


def bounded_by(seconds: float) -> Callable[..., Awaitable[AsyncConnection[Any]]]:
    """Return a function that opens connections whose every wait is bounded."""

    class BoundedConnection(_Bounded):
        limit = seconds

    return BoundedConnection.connect
