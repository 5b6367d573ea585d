"""Writes results to the object store in parts, and knows which requests have their result.

Invariant: a request is marked as done in the transaction that adds the part with its line, so that
each line is in exactly one part. An object that no part names is deleted by the sweeper.
"""

import time
from collections.abc import AsyncGenerator, Iterable
from typing import Any

from batches import claims, ids
from batches.records import EXPIRED, BatchPart, ClaimedBatch
from batches.result_lines import LineOutcome
from intake.services import Services

#: A part is written when it has so many bytes or lines.
PART_BYTES = 4_000_000
PART_LINES = 2_000
#: A part is written at the latest after this share of the batch's age: the longer a batch runs,
#: the less often, so that it has few parts.
MAX_WAIT_SHARE = 1 / 200


class WrittenResults:
    """One bit for each request whose result is in a part."""

    def __init__(self, bits: bytes) -> None:
        self._bits = bytearray(bits)

    def __contains__(self, index: int) -> bool:
        position, bit = divmod(index, 8)
        return position < len(self._bits) and bool(self._bits[position] >> bit & 1)

    def bits_with(self, indexes: Iterable[int]) -> bytes:
        """Return the bits with these requests added."""
        bits = bytearray(self._bits)
        for index in indexes:
            position, bit = divmod(index, 8)
            bits.extend(bytes(max(0, position + 1 - len(bits))))
            bits[position] |= 1 << bit
        return bytes(bits)

    def replace(self, bits: bytes) -> None:
        """Replace the bits with those that were written."""
        self._bits = bytearray(bits)


class ResultParts:
    """The parts that one process writes of one batch."""

    def __init__(self, services: Services, batch: ClaimedBatch, next_number: int) -> None:
        """Prepare to write.

        Args:
            services: What the process shares.
            batch: The batch this process has claimed.
            next_number: The number of the next part; parts are counted from 0.
        """
        self._services = services
        self._id = batch.id
        self._fence = batch.fence
        self._number = next_number
        self._counts = [batch.completed, batch.failed]
        self._since = (batch.in_progress_at or batch.created_at).timestamp()
        self._unwritten: dict[int, LineOutcome] = {}
        self._bytes = 0
        self._first_at = 0.0
        self._written = WrittenResults(batch.done)
        self.added = 0

    def __contains__(self, index: int) -> bool:
        return index in self._written or index in self._unwritten

    def add(self, outcomes: Iterable[LineOutcome]) -> None:
        """Keep results in memory until the next part; a request's second result is ignored."""
        for outcome in outcomes:
            if outcome.index in self:
                continue
            if not self._unwritten:
                self._first_at = time.monotonic()
            self._unwritten[outcome.index] = outcome
            self._bytes += len(outcome.line)
            self.added += 1

    @property
    def full(self) -> bool:
        """Whether no more results should be kept in memory."""
        return self._bytes >= PART_BYTES or len(self._unwritten) >= PART_LINES

    @property
    def due(self) -> bool:
        """Whether it is time to write a part."""
        waited = time.monotonic() - self._first_at
        age = time.time() - self._since
        max_wait = max(self._services.settings.batches.flush_seconds, age * MAX_WAIT_SHARE)
        return self.full or bool(self._unwritten and waited >= max_wait)

    async def flush(self) -> None:
        """Write a part: first its objects, then the row that names it.

        Raises:
            FilesUnavailable, StorageFull, DatabaseUnavailable: the results stay in memory.
            Superseded: another process has claimed the batch.
        """
        if not self._unwritten:
            return
        outcomes = self._unwritten.values()
        part = await self._write_objects()
        answers = sum(outcome.answered for outcome in outcomes)
        counts = [self._counts[0] + answers, self._counts[1] + len(outcomes) - answers]
        bits = self._written.bits_with(self._unwritten)
        values: dict[str, Any] = {"done": bits, "completed": counts[0], "failed": counts[1]}
        if any(outcome.expired for outcome in outcomes):
            values["outcome"] = EXPIRED
        async with self._services.database.write() as connection:
            await claims.write_part(connection, self._id, self._fence, part, **values)
        self._written.replace(bits)
        self._counts = counts
        self._number += 1
        self._unwritten, self._bytes = {}, 0

    async def _write_objects(self) -> BatchPart:
        name = f"{self._fence}-{self._number}"
        sizes = []
        for kind, answered in (("output", True), ("error", False)):
            lines = b"".join(
                outcome.line for outcome in self._unwritten.values() if outcome.answered == answered
            )
            sizes.append(len(lines))
            if lines:
                await self._services.object_store.put_bytes(part_name(self._id, name, kind), lines)
        return BatchPart(self._number, name, sizes[0], sizes[1])


def part_name(batch_id: str, name: str, kind: str) -> str:
    """Return the name of a part's object of a kind, `output` or `error`."""
    return f"{ids.parts_folder(batch_id)}/{name}.{kind}.jsonl"


async def read_parts(
    services: Services, batch_id: str, parts: Iterable[BatchPart], kind: str
) -> AsyncGenerator[bytes, None]:
    """Yield all lines of a kind, `output` or `error`, in pieces of at most `PART_BYTES`.

    Raises:
        ObjectMissing: a part's object no longer exists.
        FilesUnavailable: retry later.
    """
    for part in parts:
        name, size = part_name(batch_id, part.name, kind), part.bytes_of(kind)
        async for piece in services.object_store.pieces(name, size, PART_BYTES):
            yield piece
