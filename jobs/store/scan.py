"""Pages through every job in Redis and sums up the logs of finished ones. Read-only.

Invariant: a job that exists during the whole scan is yielded, and the log of a job that was
erased meanwhile never counts as empty.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.redis.client import guarded
from jobs.events import Event, Usage, from_stream
from jobs.job import LISTED_FIELDS, Job
from jobs.result import JobResult
from jobs.store.job_store import JobStore

#: Jobs read together, and the events of each that are read with them; longer logs follow alone.
PAGE_JOBS = 100
PAGE_EVENTS = 500

SCAN_KEYS = 1_000


@dataclass(slots=True)
class LogFacts:
    """Sums over the events of one log."""

    events: int = 0
    last_seq: int = 0
    complete: bool = True
    result: JobResult = field(default_factory=JobResult)

    @property
    def output_tokens(self) -> int:
        """How many token ids it delivered."""
        return self.result.output_tokens

    @property
    def usage(self) -> Usage | None:
        """The usage that its last event states."""
        return self.result.usage

    def take(self, events: Iterable[Event]) -> None:
        """Add further events; a missing number makes the log incomplete."""
        for event in events:
            self.complete = self.complete and event.seq == self.last_seq + 1
            self.events, self.last_seq = self.events + 1, event.seq
            self.result.add(event)


@dataclass(frozen=True, slots=True)
class ScannedJob:
    """A job's record, and the sums of its log once it has ended, unless it was just erased."""

    job: Job
    log: LogFacts | None = None


async def scan_jobs(store: JobStore) -> AsyncIterator[list[ScannedJob]]:
    """Yield all jobs, a page at a time; a job may come twice.

    Raises:
        StoreUnavailable: Redis is away; start the scan again.
    """
    ids: list[str] = []
    cursor, started = 0, False
    start = store.keys.job("")
    redis: Any = store.redis
    while cursor or not started:
        started = True
        async with guarded():
            cursor, keys = await redis.scan(cursor, match=f"{start}*", count=SCAN_KEYS)
        ids += [key.decode().removeprefix(start) for key in keys]
        while len(ids) >= PAGE_JOBS:
            yield await _read_page(store, ids[:PAGE_JOBS])
            del ids[:PAGE_JOBS]
    if ids:
        yield await _read_page(store, ids)


async def _read_page(store: JobStore, ids: Sequence[str]) -> list[ScannedJob]:
    pipe: Any = store.redis.pipeline(transaction=False)
    for job_id in ids:
        pipe.hmget(store.keys.job(job_id), LISTED_FIELDS)
        pipe.xrange(store.keys.log(job_id), count=PAGE_EVENTS)
    async with guarded():
        answers = await pipe.execute()
    found = []
    for job_id, values, entries in zip(ids, answers[::2], answers[1::2], strict=True):
        raw = {
            name.encode(): value
            for name, value in zip(LISTED_FIELDS, values, strict=True)
            if value is not None
        }
        if b"status" in raw:
            job = Job.from_hash(job_id, raw)
            log = await _log(store, job, entries) if job.status.is_terminal else None
            found.append(ScannedJob(job, log))
    return found


async def _log(store: JobStore, job: Job, entries: Sequence[Any]) -> LogFacts | None:
    """Sum up the first entries and the rest; None when the job was erased meanwhile."""
    facts = LogFacts()
    facts.take(from_stream(entry_id, fields) for entry_id, fields in entries)
    more = len(entries) == PAGE_EVENTS
    while more:
        events = await store.read_log(job.id, facts.last_seq, PAGE_EVENTS)
        facts.take(events)
        more = len(events) == PAGE_EVENTS
    if facts.last_seq < job.seq:
        async with guarded():
            if not await store.redis.exists(store.keys.job(job.id)):
                return None
    return facts
