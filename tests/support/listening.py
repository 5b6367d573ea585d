"""A listening socket that nothing may connect to."""

import socket
from types import TracebackType
from typing import Self


class ForbiddenServer:
    """Listens on a free port of this machine; tells whether anything connected."""

    def __enter__(self) -> Self:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    @property
    def url(self) -> str:
        """Where a picture would be."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/a.png"

    @property
    def untouched(self) -> bool:
        """Whether no connection was opened: the kernel completes it before an accept."""
        try:
            self._socket.accept()[0].close()
        except BlockingIOError:
            return True
        return False
