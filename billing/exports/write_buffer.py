"""An in-memory file: a library writes to it, and the caller takes the bytes out."""

import io


class WriteBuffer(io.RawIOBase):
    """Keeps what is written until `take` returns it."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        """Return True."""
        return True

    def write(self, data: object) -> int:
        """Keep a copy of the data; returns its length."""
        piece = bytes(data)  # type: ignore[call-overload]
        self._pieces.append(piece)
        self._written += len(piece)
        return len(piece)

    def tell(self) -> int:
        """Return the number of bytes written so far, taken or not."""
        return self._written

    def take(self) -> bytes:
        """Return the bytes written since the last call."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data
