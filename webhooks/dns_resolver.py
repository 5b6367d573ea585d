"""Names into addresses, by the system's resolver, in threads of its own.

Invariant: a name whose server never answers keeps one of THREADS for as long as the system waits
for it, and delays no other name as long as there is another.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

#: Given a name and a port, returns addresses as text. Raises OSError when there are none.
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class Resolver:
    """The system's resolver."""

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, "resolver")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of a name, in the order of preference."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _look_up, host, port)
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    def close(self) -> None:
        """Take no more questions; who waits for an answer waits no longer."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(
    host: str, port: int
) -> Sequence[tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)  # type: ignore[return-value]
