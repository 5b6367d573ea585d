"""What is kept of a finished job when Redis lets it go: its record without the prompt, its result.

Invariant: a job read back from the archive looks to clients as it did while Redis had it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from jobs.connection import guarded
from jobs.events import Event
from jobs.model import LISTED_FIELDS, Job
from jobs.result import Result, fold
from jobs.store import JobStore

#: Logs read at once: they can be long, and a whole batch of them must not be held in memory.
READ_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Archived:
    """One finished job in the form it is stored in, both JSON."""

    job_id: str
    record: bytes
    result: bytes

    def job(self) -> Job:
        """Return the job's record; its body is empty."""
        fields = orjson.loads(self.record)
        raw = {name.encode(): value.encode() for name, value in fields.items()}
        return Job.from_hash(self.job_id, raw)

    def outcome(self) -> Result:
        """Return what it produced."""
        return Result.decode(self.result)


async def read_finished(store: JobStore, job_ids: Sequence[str]) -> list[Archived]:
    """Read what is to be archived of these jobs; those that Redis no longer has are left out.

    Raises:
        StoreUnavailable: come back later.
    """
    found: list[Archived] = []
    for start in range(0, len(job_ids), READ_AT_ONCE):
        found += await _read(store, job_ids[start : start + READ_AT_ONCE])
    return found


async def erased(store: JobStore, job_ids: Sequence[str]) -> list[str]:
    """Return which of these jobs Redis no longer has."""
    keys = {store.keys.job(job_id): job_id for job_id in job_ids}
    redis: Any = store.redis
    async with guarded():
        if not keys or await redis.exists(*keys) == len(keys):
            return []
        return [job_id for key, job_id in keys.items() if not await redis.exists(key)]


async def _read(store: JobStore, job_ids: Sequence[str]) -> list[Archived]:
    found = []
    for job_id, (values, log) in zip(job_ids, await store.finished(job_ids), strict=True):
        record = {
            name: value.decode()
            for name, value in zip(LISTED_FIELDS, values, strict=True)
            if value is not None
        }
        if "status" in record:
            # The scripts write each entry's fields in one order: t, kind, d, data.
            events = [
                Event(int(entry_id.partition(b"-")[0]), fields[1].decode(), fields[3])
                for entry_id, fields in log
            ]
            found.append(Archived(job_id, orjson.dumps(record), fold(events).encode()))
    return found
