"""Waits for a client's disconnect on its ASGI connection."""

from starlette.types import Receive


class ClientDisconnect:
    """Calling it waits until the client of one connection disconnects."""

    __slots__ = ("_receive",)

    def __init__(self, receive: Receive) -> None:
        self._receive = receive

    async def __call__(self) -> None:
        """Return once the client has disconnected."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
