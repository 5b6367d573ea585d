"""What is kept of a finished job in SQL: its record and its result.

The prompt is kept only where the client asked for it: a stored response that others can continue.
Invariant: a job read back from the archive looks to clients as it did in Redis. However long logs
are, Redis is never asked for more than READ_EVENTS in one call.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
import structlog

from core.redis.client import guarded
from jobs.events import Event
from jobs.job import LISTED_FIELDS, Job, JobWebhook
from jobs.result import JobResult, fold
from jobs.store.ended_jobs import was_erased
from jobs.store.job_store import JobStore

log = structlog.get_logger()

#: Redis runs nothing else while it reads logs, and a batch of long ones would fill our memory.
READ_EVENTS = 2_000

#: The position of the spec in a record, and a field that every spec of a response has.
SPEC, RESPONSE = LISTED_FIELDS.index("spec"), b'"response":{'

#: Errors that a malformed record or log raises.
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError)


class FinishedJob(Protocol):
    """A finished job, and the number of events in its log."""

    @property
    def job_id(self) -> str:
        """Its id."""

    @property
    def last_seq(self) -> int:
        """The number of its last event."""


@dataclass(frozen=True, slots=True)
class ArchivedJob:
    """One finished job in its stored form, both JSON.

    `webhook` receives its end, unless the job is `quiet`. Both are known when the job is archived
    and are not read back.
    """

    job_id: str
    record: bytes
    result: bytes
    webhook: JobWebhook | None = None
    quiet: bool = False

    def job(self) -> Job:
        """Return the job's record; its body is empty unless the client wanted it kept."""
        fields = orjson.loads(self.record)
        raw = {name.encode(): value.encode() for name, value in fields.items()}
        return Job.from_hash(self.job_id, raw)

    @property
    def traceparent(self) -> str | None:
        """The trace it was submitted in."""
        fields = orjson.loads(self.record)
        found: str | None = orjson.loads(fields["spec"]).get("traceparent")
        return found

    def outcome(self) -> JobResult:
        """Return its result."""
        return JobResult.decode(self.result)


async def read_finished(store: JobStore, entries: Sequence[FinishedJob]) -> list[ArchivedJob]:
    """Read the parts of these jobs that are to be kept.

    Jobs that Redis no longer has are left out. Unreadable ones are left out and logged.

    Raises:
        StoreUnavailable: Try again later.
    """
    found: list[ArchivedJob] = []
    for chunk in _chunks(entries):
        found += await _read(store, chunk)
    return found


async def erased(store: JobStore, job_ids: Sequence[str]) -> list[str]:
    """Return those of these finished jobs that their clients erased.

    A job without even a tombstone counts as erased only if nothing but its client removes jobs
    before the ledger has them; a Redis restored from a backup must not empty the archive.
    """
    keys = [store.keys.job(job_id) for job_id in job_ids]
    redis: Any = store.redis
    async with guarded():
        if not keys or await redis.exists(*keys) == len(keys):
            return []
        pipe = redis.pipeline(transaction=False)
        for job_id, key in zip(job_ids, keys, strict=True):
            pipe.exists(key)
            pipe.get(store.keys.gone(job_id))
        answers = await pipe.execute()
    return [
        job_id
        for job_id, there, tombstone in zip(job_ids, answers[::2], answers[1::2], strict=True)
        if not there and (was_erased(tombstone) if tombstone else store.keeps_until_archived)
    ]


def _chunks(entries: Sequence[FinishedJob]) -> Iterator[list[FinishedJob]]:
    chunk: list[FinishedJob] = []
    events = 0
    for entry in entries:
        if chunk and events + _events_with_record(entry) > READ_EVENTS:
            yield chunk
            chunk, events = [], 0
        chunk.append(entry)
        events += max(1, _events_with_record(entry))
    if chunk:
        yield chunk


def _events_with_record(entry: FinishedJob) -> int:
    """Return how many events of a job are read with its record; none of a long log."""
    return entry.last_seq if 0 < entry.last_seq <= READ_EVENTS else 0


async def _read(store: JobStore, entries: Sequence[FinishedJob]) -> list[ArchivedJob]:
    found = []
    answers = await store.ended.records(
        (entry.job_id, _events_with_record(entry)) for entry in entries
    )
    bodies = await _bodies(store, entries, answers)
    for entry, (values, events) in zip(entries, answers, strict=True):
        try:
            record = _record(values)
            if "status" in record:
                record |= bodies.get(entry.job_id, {})
                result = _fold(events) if events else await _fold_pages(store, entry.job_id)
                found.append(_archived(entry.job_id, record, result))
        except UNREADABLE as error:
            # The error and its traceback may quote what the client wrote.
            kind = type(error).__name__
            log.error("job_not_archived", job_id=entry.job_id, error=kind)  # noqa: TRY400
    return found


def _archived(job_id: str, record: dict[str, str], result: JobResult) -> ArchivedJob:
    spec = orjson.loads(record["spec"])
    url = spec.get("webhook")
    webhook = None if url is None else JobWebhook(url, tuple(spec.get("webhook_events", ())))
    quiet = spec.get("quiet", False)
    return ArchivedJob(job_id, orjson.dumps(record), result.encode(), webhook, quiet)


async def _bodies(
    store: JobStore, entries: Sequence[FinishedJob], answers: Sequence[tuple[Sequence[Any], Any]]
) -> dict[str, dict[str, str]]:
    """Return the bodies that are kept, by job."""
    wanted = [
        entry.job_id
        for entry, (values, _) in zip(entries, answers, strict=True)
        if values[SPEC] is not None and RESPONSE in values[SPEC]
    ]
    kept = await store.ended.kept_bodies(wanted) if wanted else []
    return {
        job_id: {"body": body.decode()}
        for job_id, body in zip(wanted, kept, strict=True)
        if body is not None
    }


def _record(values: Sequence[bytes | None]) -> dict[str, str]:
    named = zip(LISTED_FIELDS, values, strict=True)
    return {name: value.decode() for name, value in named if value is not None}


def _fold(raw: Sequence[Any]) -> JobResult:
    """Fold raw entries; the scripts write each one's fields in one order: t, kind, d, data."""
    return fold(
        [
            Event(int(entry_id.partition(b"-")[0]), fields[1].decode(), fields[3])
            for entry_id, fields in raw
        ]
    )


async def _fold_pages(store: JobStore, job_id: str) -> JobResult:
    result = JobResult()
    after = 0
    while events := await store.read_log(job_id, after, READ_EVENTS):
        for event in events:
            result.add(event)
        after = events[-1].seq
    return result
