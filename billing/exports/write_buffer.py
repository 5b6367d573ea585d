"""A file that is written here and read there, a piece at a time; nothing is kept."""

import io


class WriteBuffer(io.RawIOBase):
    """Takes what a library writes to a file, until somebody takes it away."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []
        self._written = 0

    def writable(self) -> bool:
        """Say that it can be written."""
        return True

    def write(self, data: object) -> int:
        """Take a copy."""
        piece = bytes(data)  # type: ignore[call-overload]
        self._pieces.append(piece)
        self._written += len(piece)
        return len(piece)

    def tell(self) -> int:
        """Return how much was written since the beginning."""
        return self._written

    def take(self) -> bytes:
        """Return what has not been taken yet."""
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data
