"""Writes results down in parts, and knows which requests have theirs.

Invariant: a request is counted as done in the transaction that names the part its line is in, so
each line is in exactly one part. A part that was never named is nobody's, and swept.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterable, Iterable
from typing import Any

from batches import ids, repository
from batches.result_lines import LineOutcome
from intake.services import Services

PART_BYTES = 4_000_000
PART_LINES = 2_000
#: Results of a batch that runs for long are written less often, so that parts stay few.
SHARE_OF_TIME = 1 / 200


class WrittenParts:
    """One bit for each request that has its result in a part."""

    def __init__(self, bits: bytes) -> None:
        self._bits = bytearray(bits)

    def __contains__(self, index: int) -> bool:
        place, bit = divmod(index, 8)
        return place < len(self._bits) and bool(self._bits[place] >> bit & 1)

    def bits_with(self, indexes: Iterable[int]) -> bytes:
        """Return the bits as they are once these are done, too."""
        bits = bytearray(self._bits)
        for index in indexes:
            place, bit = divmod(index, 8)
            bits.extend(bytes(max(0, place + 1 - len(bits))))
            bits[place] |= 1 << bit
        return bytes(bits)

    def set(self, bits: bytes) -> None:
        """Take over what was written."""
        self._bits = bytearray(bits)


class ResultParts:
    """The parts one process writes of one batch."""

    def __init__(self, api: Services, row: Any, next_number: int) -> None:
        self._api = api
        self._id: str = row.id
        self._fence: int = row.fence
        self._number = next_number
        self._counts = [row.completed, row.failed]
        self._since = (row.in_progress_at or row.created_at).timestamp()
        self._waiting: dict[int, LineOutcome] = {}
        self._bytes = 0
        self._first_at = 0.0
        self.done = WrittenParts(row.done)
        self.added = 0

    def __contains__(self, index: int) -> bool:
        return index in self.done or index in self._waiting

    def add(self, outcomes: Iterable[LineOutcome]) -> None:
        """Keep results until they are written."""
        for outcome in outcomes:
            if outcome.index in self:
                continue
            if not self._waiting:
                self._first_at = time.monotonic()
            self._waiting[outcome.index] = outcome
            self._bytes += len(outcome.line)
            self.added += 1

    @property
    def full(self) -> bool:
        """Whether no more should be kept in memory."""
        return self._bytes >= PART_BYTES or len(self._waiting) >= PART_LINES

    @property
    def due(self) -> bool:
        """Whether it is time to write."""
        waited = time.monotonic() - self._first_at
        age = time.time() - self._since
        least = max(self._api.settings.batches.flush_seconds, age * SHARE_OF_TIME)
        return self.full or bool(self._waiting and waited >= least)

    async def flush(self) -> None:
        """Write what is waiting: the part first, then the row that names it.

        Raises:
            FilesUnavailable, StorageFull, DatabaseUnavailable: it is still waiting.
            Superseded: another process has the batch.
        """
        if not self._waiting:
            return
        name = f"{self._fence}-{self._number}"
        sizes = []
        for kind, answered in (("output", True), ("error", False)):
            lines = b"".join(one.line for one in self._waiting.values() if one.answered == answered)
            sizes.append(len(lines))
            if lines:
                await self._api.object_store.put_bytes(part_name(self._id, name, kind), lines)
        answers = sum(one.answered for one in self._waiting.values())
        counts = [self._counts[0] + answers, self._counts[1] + len(self._waiting) - answers]
        bits = self.done.bits_with(self._waiting)
        part = {
            "number": self._number,
            "name": name,
            "output_bytes": sizes[0],
            "error_bytes": sizes[1],
        }
        values = {"done": bits, "completed": counts[0], "failed": counts[1]}
        if any(one.expired for one in self._waiting.values()):
            values["outcome"] = repository.EXPIRED
        async with self._api.database.write() as connection:
            await repository.write_part(connection, self._id, self._fence, part, **values)
        self.done.set(bits)
        self._counts = counts
        self._number += 1
        self._waiting, self._bytes = {}, 0


def part_name(batch_id: str, name: str, kind: str) -> str:
    """Return how a part is named in the store."""
    return f"{ids.parts_folder(batch_id)}/{name}.{kind}.jsonl"


async def joined(
    api: Services, batch_id: str, parts: Iterable[Any], kind: str
) -> AsyncGenerator[bytes, None]:
    """Yield all lines of a kind."""
    for part in parts:
        size = part.output_bytes if kind == "output" else part.error_bytes
        if size:
            pieces: AsyncIterable[bytes] = api.object_store.pieces(
                part_name(batch_id, part.name, kind), size, PART_BYTES
            )
            async for piece in pieces:
                yield piece
