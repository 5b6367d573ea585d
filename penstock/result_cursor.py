"""Where the reader of a batch's result file is.

Invariant: each line is returned once, also if the download breaks off and begins again.
"""

import json

from penstock.api_objects import BatchResult


class ResultCursor:
    """Splits a downloaded file into results, over any number of downloads."""

    def __init__(self) -> None:
        self._returned = 0
        self._skip = 0
        self._rest = b""

    def begin(self) -> None:
        """Start a download from the first byte."""
        self._skip, self._rest = self._returned, b""

    def feed(self, piece: bytes) -> list[BatchResult]:
        """Return the results that this piece completes."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        return self._new(lines)

    def end(self) -> list[BatchResult]:
        """Return the last result, if no line break follows it."""
        lines, self._rest = [self._rest], b""
        return self._new(lines)

    def _new(self, lines: list[bytes]) -> list[BatchResult]:
        whole = [line for line in lines if line.strip()]
        skipped = min(self._skip, len(whole))
        self._skip -= skipped
        new = [BatchResult.parse(json.loads(line)) for line in whole[skipped:]]
        self._returned += len(new)
        return new
