"""Requests that last: they end when the client leaves, the server closes, or time is up.

Invariant: every lasting request stands in `OpenRequests`, so that a shutdown ends it in an orderly
way; one listener per request notices the client's leaving at once.
"""

import asyncio
from collections.abc import Callable, Coroutine
from enum import StrEnum
from types import TracebackType
from typing import Any, Self

#: How long answers that cannot be resumed may go on once the server was told to stop.
GRACE_SECONDS = 10.0


#: Returns when the client has disconnected.
Disconnected = Callable[[], Coroutine[Any, Any, None]]


class EndReason(StrEnum):
    """Why a lasting request ended before its job did."""

    CLIENT = "client"
    SERVER = "server"
    TIME = "time"


class RequestLifetime:
    """Wraps the waiting part of one request; leaves it early and says why in `ended`.

    A `patient` request is given GRACE_SECONDS when the server closes.
    """

    def __init__(
        self,
        disconnected: Disconnected,
        closing: "OpenRequests",
        seconds: float | None = None,
        *,
        patient: bool = False,
    ) -> None:
        self.ended: EndReason | None = None
        self.patient = patient
        self._disconnected = disconnected
        self._closing = closing
        self._timeout = asyncio.timeout(seconds)

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._listener = asyncio.create_task(self._listen())
        self._closing.add(self)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        self._closing.discard(self)
        self._listener.cancel()
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            self.ended = self.ended or EndReason.TIME
            return True
        return False

    def end(self, why: EndReason) -> None:
        """Leave the wrapped part now."""
        if self.ended is None and not self._timeout.expired():
            self.ended = why
            self._timeout.reschedule(asyncio.get_running_loop().time())

    async def _listen(self) -> None:
        await self._disconnected()
        self.end(EndReason.CLIENT)


class OpenRequests:
    """All lasting requests of this process, and whether it is shutting down."""

    def __init__(self) -> None:
        self.closing = False
        self._closed = False
        self._present: set[RequestLifetime] = set()

    def add(self, presence: RequestLifetime) -> None:
        """Register a request; it ends at once when its time is over already."""
        self._present.add(presence)
        if self._closed or (self.closing and not presence.patient):
            presence.end(EndReason.SERVER)

    def discard(self, presence: RequestLifetime) -> None:
        """Forget a request that ended."""
        self._present.discard(presence)

    def start(self) -> None:
        """End what can be resumed now, the rest after GRACE_SECONDS."""
        self.closing = True
        for presence in [item for item in self._present if not item.patient]:
            presence.end(EndReason.SERVER)
        asyncio.get_running_loop().call_later(GRACE_SECONDS, self._finish)

    def _finish(self) -> None:
        self._closed = True
        for presence in list(self._present):
            presence.end(EndReason.SERVER)
