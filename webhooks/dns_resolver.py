"""Resolves host names with the system's resolver, in threads of its own.

Invariant: a name whose server never answers occupies one thread until the system gives up; other
names are resolved as long as there is a free thread.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

#: Returns the addresses of a name and port as text; raises OSError if there are none.
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


class Resolver:
    """The system's resolver."""

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, "resolver")

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of a name, in order of preference.

        Raises:
            OSError: there are none.
        """
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._threads, _look_up, host, port)
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    def close(self) -> None:
        """Stop; pending lookups are cancelled."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(
    host: str, port: int
) -> Sequence[tuple[int, int, int, str, tuple[str, int] | tuple[str, int, int, int]]]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)  # type: ignore[return-value]
