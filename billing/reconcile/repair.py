"""Records finished jobs that the ledger lost and that Redis still holds whole.

Each job's usage goes back into the outbox and is recorded from there, as when the job ended.
Invariant: only a job whose log is complete and agrees with its record is recorded; one that is
recorded by a ledger process meanwhile is not recorded twice.
"""

from collections.abc import Sequence
from typing import Any

from billing.ledger.consumer import OutboxConsumer
from core.db.database import Database
from core.redis.client import guarded
from core.settings.billing import BillingSettings
from jobs.job import Job
from jobs.store.job_store import JobStore
from jobs.store.scan import ScannedJob
from jobs.store.usage_outbox import UsageEntry, add_entries


def is_whole(seen: ScannedJob) -> bool:
    """Return whether a finished job's log has every event and agrees with its record."""
    job, log = seen.job, seen.log
    return (
        log is not None
        and log.complete
        and log.last_seq == job.seq
        and log.output_tokens == job.output_tokens
        and log.usage is not None
    )


class LedgerRepair:
    """Records lost jobs of one installation."""

    def __init__(self, store: JobStore, database: Database, settings: BillingSettings) -> None:
        self._store = store
        self._consumer = OutboxConsumer(store, database, settings, "repair")

    async def record(self, lost: Sequence[Job]) -> None:
        """Record the usage of these jobs.

        Raises:
            StoreUnavailable, DatabaseUnavailable: some may not be recorded yet; a ledger process,
                or the next repair, does it.
        """
        redis: Any = self._store.redis
        async with guarded():
            pipe = redis.pipeline(transaction=False)
            for job in lost:
                pipe.hget(self._store.keys.job(job.id), "key_id")
            keys = await pipe.execute()
        entries = [_entry(job, key or b"") for job, key in zip(lost, keys, strict=True)]
        await self._consumer.record(await add_entries(redis, self._store.keys, entries))


def _entry(job: Job, key_id: bytes) -> UsageEntry:
    return UsageEntry(
        entry_id="",
        job_id=job.id,
        account=job.account,
        key_id=key_id.decode(),
        model=job.queue,
        service_tier=job.spec.service_tier,
        status=job.status,
        input_tokens=job.input_tokens,
        cached_input_tokens=job.cached_input_tokens,
        output_tokens=job.output_tokens,
        created=job.created,
        started=job.started,
        finished=job.finished,
        run_ms=job.run_ms,
        attempt=job.attempt,
        last_seq=job.seq,
        weights=job.weights,
        vectors=job.vectors,
    )
