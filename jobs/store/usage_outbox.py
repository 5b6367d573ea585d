"""The usage outbox: a Redis stream with the usage of finished jobs, on its way to SQL.

The script that ends a job appends its entry in the same atomic step. A consumer group reads
entries, writes them to SQL, commits, and only then calls `EndedJobs.archive`. Invariant: no entry
leaves the stream before it is archived; the stream is never trimmed.
"""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, replace
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from core.redis.client import guarded
from core.redis.keys import Keys
from core.redis.script_sources import ALLOW_OOM
from jobs.fairness import ServiceTier
from jobs.status import Status

TIERS = tuple(ServiceTier)

#: The plain command would be refused at `maxmemory`, where only reading empties the outbox.
CREATE = ALLOW_OOM + "return redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')"

#: Entries per page of a read without taking them.
PAGE_ENTRIES = 1_000


@dataclass(frozen=True, slots=True)
class UsageEntry:
    """The usage of one job. Times are Unix milliseconds, `started` 0 if it never ran.

    `weights` is the digest of the weights of the last attempt: "" if there was none, None in an
    entry of an older version, which did not say it. `vectors` counts the inputs of an embedding
    request whose vectors were delivered.
    """

    entry_id: str
    job_id: str
    account: str
    key_id: str
    model: str
    service_tier: ServiceTier
    status: Status
    input_tokens: int
    cached_input_tokens: int
    output_tokens: int
    created: int
    started: int
    finished: int
    run_ms: int
    attempt: int
    last_seq: int
    weights: str | None = None
    vectors: int = 0

    @classmethod
    def from_stream(cls, entry_id: bytes, raw: dict[bytes, bytes]) -> "UsageEntry":
        """Read an entry as `scripts/lib.lua` writes it.

        Raises:
            KeyError, ValueError, IndexError: The script did not write it.
        """

        def number(name: bytes) -> int:
            return int(raw.get(name) or 0)

        return cls(
            entry_id=entry_id.decode(),
            job_id=raw[b"job"].decode(),
            account=raw[b"account"].decode(),
            key_id=raw[b"key_id"].decode(),
            model=raw[b"model"].decode(),
            service_tier=TIERS[number(b"tier")],
            status=Status(raw[b"status"].decode()),
            input_tokens=number(b"input"),
            cached_input_tokens=number(b"cached"),
            output_tokens=number(b"output"),
            created=number(b"created"),
            started=number(b"started"),
            finished=number(b"finished"),
            run_ms=number(b"run_ms"),
            attempt=number(b"attempt"),
            last_seq=number(b"seq"),
            weights=raw[b"weights"].decode() if b"weights" in raw else None,
            vectors=number(b"vectors"),
        )


@dataclass(frozen=True, slots=True)
class UnreadableEntry:
    """An entry that cannot be billed; `fields` as far as they are text."""

    entry_id: str
    fields: dict[str, str]
    reason: str


Entry = UsageEntry | UnreadableEntry


class Outbox:
    """Reads the outbox as one member of a consumer group. Every call may raise StoreUnavailable."""

    def __init__(self, redis: Redis, keys: Keys, group: str, consumer: str) -> None:
        self._redis: Any = redis
        self._keys = keys
        self.group = group
        self._consumer = consumer

    async def open(self) -> None:
        """Create the group at the start of the stream, unless it exists."""
        async with guarded():
            try:
                await self._redis.eval(CREATE, 1, self._keys.outbox, self.group)
            except ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    async def read(
        self, count: int, *, unacknowledged: bool = False, block_ms: int | None = None
    ) -> list[Entry]:
        """Return new entries, or this consumer's own that it never acknowledged.

        Args:
            count: Most entries to return.
            unacknowledged: Return entries that were read before and not archived.
            block_ms: How long to wait for new entries; None does not wait.
        """
        cursor = "0" if unacknowledged else ">"
        streams = await self._in_group(
            *("XREADGROUP", "GROUP", self.group, self._consumer, "COUNT", count),
            *(() if block_ms is None else ("BLOCK", block_ms)),
            *("STREAMS", self._keys.outbox, cursor),
        )
        return [entry for _, entries in streams or [] for entry in _readable(entries)]

    async def claim(self, count: int, idle_ms: int) -> list[Entry]:
        """Take over entries that another consumer has held for `idle_ms`."""
        answer = await self._in_group(
            *("XAUTOCLAIM", self._keys.outbox, self.group, self._consumer, idle_ms, "0-0"),
            *("COUNT", count),
        )
        return _readable(answer[1])

    async def _in_group(self, *command: Any) -> Any:
        """Run a command of the group; create the group again if Redis lost it."""
        async with guarded():
            try:
                return await self._redis.execute_command(*command)
            except ResponseError as error:
                if not str(error).startswith("NOGROUP"):
                    raise
        await self.open()
        async with guarded():
            return await self._redis.execute_command(*command)

    async def waiting(self) -> AsyncIterator[list[Entry]]:
        """Yield all entries, oldest first, a page at a time, without taking them."""
        after = "-"
        while True:
            async with guarded():
                found = await self._redis.xrange(self._keys.outbox, min=after, count=PAGE_ENTRIES)
            if not found:
                return
            yield _readable(found)
            after = f"({found[-1][0].decode()}"

    async def backlog(self) -> int:
        """Return how many entries wait."""
        async with guarded():
            return int(await self._redis.xlen(self._keys.outbox))

    async def oldest(self) -> int | None:
        """Return the time of the oldest entry in Unix milliseconds, None without one."""
        async with guarded():
            entries = await self._redis.xrange(self._keys.outbox, count=1)
        return int(entries[0][0].partition(b"-")[0]) if entries else None


async def add_entries(redis: Any, keys: Keys, entries: Iterable[UsageEntry]) -> list[Entry]:
    """Add the usage of finished jobs, as `scripts/lib.lua` does; return the new entries."""
    added = list(entries)
    pipe = redis.pipeline(transaction=False)
    for entry in added:
        fields = {
            "job": entry.job_id,
            "account": entry.account,
            "key_id": entry.key_id,
            "model": entry.model,
            "tier": TIERS.index(entry.service_tier),
            "status": entry.status,
            "input": entry.input_tokens,
            "cached": entry.cached_input_tokens,
            "output": entry.output_tokens,
            "created": entry.created,
            "started": entry.started or "",
            "finished": entry.finished,
            "run_ms": entry.run_ms,
            "attempt": entry.attempt,
            "seq": entry.last_seq,
            "vectors": entry.vectors,
        }
        if entry.weights is not None:
            fields["weights"] = entry.weights
        pipe.xadd(keys.outbox, fields)
    async with guarded():
        ids = await pipe.execute()
    return [
        replace(entry, entry_id=entry_id.decode())
        for entry, entry_id in zip(added, ids, strict=True)
    ]


def _readable(entries: Iterable[tuple[bytes, dict[bytes, bytes]]]) -> list[Entry]:
    """Read raw entries. An entry that was archived meanwhile has no fields and is left out."""
    return [_read(entry_id, raw) for entry_id, raw in entries if raw]


def _read(entry_id: bytes, raw: dict[bytes, bytes]) -> Entry:
    try:
        return UsageEntry.from_stream(entry_id, raw)
    except (KeyError, ValueError, IndexError) as error:
        text = {
            name.decode(errors="replace"): value.decode(errors="replace")
            for name, value in raw.items()
        }
        return UnreadableEntry(entry_id.decode(), text, f"{type(error).__name__}: {error}")
