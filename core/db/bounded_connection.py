"""A connection to PostgreSQL that gives up on a server which no longer answers.

A server that is frozen keeps its connections, and its kernel goes on confirming what it is sent, so
no timeout below this ends the wait. Invariant: whatever is waited for, a ping, a statement or a
rollback, is over after `seconds`, and the connection with it.
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
        """End the connection under who waits for it; a cancellation would wait for the server."""
        with (
            suppress(Error, OSError),
            socket.socket(fileno=os.dup(self.pgconn.socket)) as way,
        ):
            way.shutdown(socket.SHUT_RDWR)


def bounded_by(seconds: float) -> Callable[..., Awaitable[AsyncConnection[Any]]]:
    """Return what opens connections whose every wait is bounded."""

    class BoundedConnection(_Bounded):
        limit = seconds

    return BoundedConnection.connect
