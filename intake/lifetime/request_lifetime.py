"""Ends long requests when the client disconnects, the server shuts down, or time is up.

Invariant: every long request is in `OpenRequests`, so that a shutdown ends it cleanly; one
listener per request notices the client's disconnect immediately.
"""

import asyncio
from collections.abc import Callable, Coroutine
from enum import StrEnum
from types import TracebackType
from typing import Any, Self

#: After the shutdown begins, responses that cannot be resumed may continue for so long.
GRACE_SECONDS = 10.0

#: Returns when the client has disconnected.
Disconnected = Callable[[], Coroutine[Any, Any, None]]


class EndReason(StrEnum):
    """Why a long request ended before its job did."""

    CLIENT = "client"
    SERVER = "server"
    TIME = "time"


class RequestLifetime:
    """A context around the waiting part of one request; it may leave that part early.

    Attributes:
        ended: Why the part was left early; None if it was not.
        gets_grace: Whether a shutdown gives the request `GRACE_SECONDS`.
    """

    def __init__(
        self,
        disconnected: Disconnected,
        open_requests: "OpenRequests",
        seconds: float | None = None,
        *,
        gets_grace: bool = False,
    ) -> None:
        """Prepare a context.

        Args:
            disconnected: Returns when the client has disconnected.
            open_requests: The process's long requests.
            seconds: How long the part may take; None for no limit.
            gets_grace: Whether a shutdown gives the request `GRACE_SECONDS`.
        """
        self.ended: EndReason | None = None
        self.gets_grace = gets_grace
        self._disconnected = disconnected
        self._open_requests = open_requests
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._listener = asyncio.create_task(self._listen())
        self._open_requests.add(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self._open_requests.discard(self)
        self._listener.cancel()
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            self.ended = self.ended or EndReason.TIME
            return True
        return False

    def end(self, reason: EndReason) -> None:
        """Leave the wrapped part now."""
        if self.ended is None and not self._timeout.expired():
            self.ended = reason
            self._timeout.reschedule(asyncio.get_running_loop().time())

    async def _listen(self) -> None:
        await self._disconnected()
        self.end(EndReason.CLIENT)


class OpenRequests:
    """All long requests of this process; `closing` is True once the server shuts down."""

    def __init__(self) -> None:
        self.closing = False
        self._grace_is_over = False
        self._requests: set[RequestLifetime] = set()

    def __len__(self) -> int:
        return len(self._requests)

    def add(self, request: RequestLifetime) -> None:
        """Register a request; ends it immediately if the shutdown leaves it no time."""
        self._requests.add(request)
        if self._grace_is_over or (self.closing and not request.gets_grace):
            request.end(EndReason.SERVER)

    def discard(self, request: RequestLifetime) -> None:
        """Remove a request that has ended."""
        self._requests.discard(request)

    def shut_down(self) -> None:
        """Begin the shutdown: end what can be resumed now, the rest after `GRACE_SECONDS`."""
        self.closing = True
        for request in [item for item in self._requests if not item.gets_grace]:
            request.end(EndReason.SERVER)
        asyncio.get_running_loop().call_later(GRACE_SECONDS, self._end_all)

    def _end_all(self) -> None:
        self._grace_is_over = True
        for request in list(self._requests):
            request.end(EndReason.SERVER)
