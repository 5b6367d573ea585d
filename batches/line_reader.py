"""Reads a file of requests line by line, with bounded memory.

Invariant: a file always gives the same lines with the same numbers, so that a request's index
identifies it for good. No connection is held between two blocks.
"""

from dataclasses import dataclass

from files.object_store import ObjectStore

BLOCK_BYTES = 1024 * 1024
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class RequestLine:
    """A line that is not blank.

    Attributes:
        number: The line's number in the file, from 1; blank lines count.
        index: The request's index in the batch, from 0; blank lines do not count.
        raw: The line; None if it is longer than allowed.
    """

    number: int
    index: int
    raw: bytes | None


class _LineSplitter:
    """Splits blocks into lines."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._pieces: list[bytes] = []
        self._bytes = 0
        self._number = 0
        self._index = 0

    def split(self, block: bytes) -> list[RequestLine]:
        """Return the lines that end in this block."""
        first, *others = block.split(b"\n")
        self._add(first)
        lines = []
        for piece in others:
            lines += self.end_line()
            self._add(piece)
        return lines

    def _add(self, piece: bytes) -> None:
        self._bytes += len(piece)
        if self._bytes <= self._max_bytes:
            self._pieces.append(piece)
        else:
            self._pieces.clear()

    def end_line(self) -> list[RequestLine]:
        """Return the line that ends here; nothing if it is blank."""
        self._number += 1
        raw = b"".join(self._pieces).strip() if self._bytes <= self._max_bytes else None
        self._pieces, self._bytes = [], 0
        if raw == b"":
            return []
        self._index += 1
        return [RequestLine(self._number, self._index - 1, raw)]


class LineReader:
    """Reads the lines of one object; after an error, the same block is read again.

    A byte order mark at the beginning is skipped.
    """

    def __init__(self, object_store: ObjectStore, name: str, size: int, max_bytes: int) -> None:
        """Prepare to read an object.

        Args:
            object_store: Where the object is.
            name: The object's name.
            size: The object's length in bytes.
            max_bytes: How long a line may be.
        """
        self._object_store = object_store
        self._name = name
        self._size = size
        self._offset = 0
        self._splitter = _LineSplitter(max_bytes)
        self._ended = False

    async def next(self) -> list[RequestLine] | None:
        """Return the lines that end in the next block, maybe none; None after the last block.

        Raises:
            FilesUnavailable: retry later.
            ObjectMissing: the object no longer exists.
        """
        if self._offset < self._size:
            end = min(self._size, self._offset + BLOCK_BYTES)
            block = await self._object_store.read(self._name, self._offset, end)
            lines = self._splitter.split(
                block if self._offset else block.removeprefix(BYTE_ORDER_MARK)
            )
            self._offset = end
            return lines
        if self._ended:
            return None
        self._ended = True
        return self._splitter.end_line()
