"""Reads a file of requests line by line, wherever it begins again, in bounded memory.

Invariant: the same file always gives the same lines with the same numbers, so that a request's
place in it names it for good. Nothing is open between two blocks.
"""

from dataclasses import dataclass

from files.object_store import ObjectStore

BLOCK_BYTES = 1024 * 1024
BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class RequestLine:
    """One line with something on it: `number` counts all lines from 1, `index` these from 0.

    `raw` is None where it is longer than it may be.
    """

    number: int
    index: int
    raw: bytes | None


class _Splitter:
    """Cuts blocks into lines."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._rest: list[bytes] = []
        self._held = 0
        self._number = 0
        self._index = 0

    def split(self, block: bytes) -> list[RequestLine]:
        """Return the lines that end in this block."""
        first, *others = block.split(b"\n")
        self._hold(first)
        lines = []
        for piece in others:
            lines += self.end()
            self._hold(piece)
        return lines

    def _hold(self, piece: bytes) -> None:
        self._held += len(piece)
        if self._held <= self._longest:
            self._rest.append(piece)
        else:
            self._rest.clear()

    def end(self) -> list[RequestLine]:
        """Return the line that is complete now, unless it is blank."""
        self._number += 1
        raw = b"".join(self._rest).strip() if self._held <= self._longest else None
        self._rest, self._held = [], 0
        if raw == b"":
            return []
        self._index += 1
        return [RequestLine(self._number, self._index - 1, raw)]


class LineReader:
    """Reads the lines of one object; after an error the same block is asked for again.

    A byte order mark at the beginning is passed over.
    """

    def __init__(self, objects: ObjectStore, name: str, size: int, longest: int) -> None:
        self._objects = objects
        self._name = name
        self._size = size
        self._at = 0
        self._splitter = _Splitter(longest)
        self._ended = False

    async def next(self) -> list[RequestLine] | None:
        """Return the lines of the next block, which may be none; None after the last.

        Raises:
            FilesUnavailable: come back later.
            ObjectMissing: the object is gone.
        """
        if self._at < self._size:
            end = min(self._size, self._at + BLOCK_BYTES)
            block = await self._objects.read(self._name, self._at, end)
            lines = self._splitter.split(block if self._at else block.removeprefix(BOM))
            self._at = end
            return lines
        if self._ended:
            return None
        self._ended = True
        return self._splitter.end()
