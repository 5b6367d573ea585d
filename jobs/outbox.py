"""The usage outbox: what finished jobs used, waiting to be written to SQL.

The script that ends a job appends its entry in the same atomic step; a consumer group reads,
writes to SQL, commits, and only then calls `JobStore.archive`. Invariant: nothing leaves the
stream before it was archived; it is never trimmed.
"""

from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from jobs.fairness import ServiceTier
from jobs.keys import Keys
from jobs.state import Status


@dataclass(frozen=True, slots=True)
class UsageEntry:
    """One job's usage, written once. Times are Unix milliseconds, `started` 0 if it never ran."""

    entry_id: str
    job_id: str
    account: str
    key_id: str
    model: str
    service_tier: ServiceTier
    status: Status
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    created: int
    started: int
    finished: int
    run_ms: int
    attempt: int
    last_seq: int

    @classmethod
    def from_stream(cls, entry_id: bytes, raw: dict[bytes, bytes]) -> "UsageEntry":
        """Read an entry as `scripts/lib.lua` wrote it."""

        def number(name: bytes) -> int:
            return int(raw.get(name) or 0)

        return cls(
            entry_id=entry_id.decode(),
            job_id=raw[b"job"].decode(),
            account=raw[b"account"].decode(),
            key_id=raw[b"key_id"].decode(),
            model=raw[b"model"].decode(),
            service_tier=list(ServiceTier)[number(b"tier")],
            status=Status(raw[b"status"].decode()),
            input_tokens=number(b"input"),
            cached_tokens=number(b"cached"),
            output_tokens=number(b"output"),
            created=number(b"created"),
            started=number(b"started"),
            finished=number(b"finished"),
            run_ms=number(b"run_ms"),
            attempt=number(b"attempt"),
            last_seq=number(b"seq"),
        )


class Outbox:
    """Reads the outbox as one member of a consumer group."""

    def __init__(self, redis: Redis, keys: Keys, group: str, consumer: str) -> None:
        self._redis: Any = redis
        self._keys = keys
        self.group = group
        self._consumer = consumer

    async def open(self) -> None:
        """Create the group at the start of the stream, if it is not there."""
        try:
            await self._redis.xgroup_create(self._keys.outbox, self.group, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    async def read(self, count: int, *, unacknowledged: bool = False) -> list[UsageEntry]:
        """Return up to `count` new entries, or this consumer's own that it never acknowledged."""
        cursor = "0" if unacknowledged else ">"
        streams = await self._redis.xreadgroup(
            self.group, self._consumer, {self._keys.outbox: cursor}, count=count
        )
        return [
            UsageEntry.from_stream(entry_id, fields)
            for _, entries in streams or []
            for entry_id, fields in entries
            if fields
        ]

    async def backlog(self) -> int:
        """Return how many entries wait."""
        return int(await self._redis.xlen(self._keys.outbox))
