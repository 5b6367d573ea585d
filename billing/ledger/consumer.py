"""Moves usage from the outbox into the ledger, for as long as the process lives.

A batch is read, its finished jobs are fetched, everything is committed in one transaction, budgets
hear of it, and only then the outbox lets go of it. Invariant: killed between any two steps it
loses nothing and counts nothing twice; an entry that cannot be recorded is set aside and holds up
no other.
"""

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from typing import Any

import structlog

from billing.errors import DatabaseUnavailable
from billing.ledger.billing_span import write_bills
from billing.ledger.ledger import DATA_ERRORS, Ledger, RecordedUsage
from billing.ledger.settlement import settle
from core import metrics
from core.db.engine import Database
from core.errors import StoreUnavailable
from core.settings.billing import BillingSettings
from jobs.archive.archived_job import ArchivedJob, erased, read_finished
from jobs.archive.job_archive import erase_archived
from jobs.store.job_store import JobStore
from jobs.store.usage_outbox import Entry, Outbox, UnreadableEntry, UsageEntry
from webhooks.tickets import DeliveryTicket, push_tickets

log = structlog.get_logger()

#: The consumer group; there is one ledger.
GROUP = "ledger"

#: What may become of an entry.
OUTCOMES = ("recorded", "duplicate", "set_aside")

BLOCK_MS = 1_000

#: What jobs said is in memory while they are archived; a single job may have more.
TOKENS_AT_ONCE = 1_000_000

#: A consumer that did not ask for so long has left, or was killed.
FORGET_MS = 600_000
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 10.0


class OutboxConsumer:
    """One member of the ledger's consumer group; any number may run, here or elsewhere."""

    def __init__(
        self, store: JobStore, database: Database, settings: BillingSettings, name: str
    ) -> None:
        self._store = store
        self._database = database
        self._ledger = Ledger(database)
        self._settings = settings
        self._outbox = Outbox(store.redis, store.keys, GROUP, name)
        self._claims_at = 0.0
        self._pause = 0.0
        for outcome in OUTCOMES:  # from the start: a series that begins at 1 shows no increase
            metrics.ledger_events.labels(outcome)

    async def run(self) -> None:
        """Consume until cancelled, whatever is away in the meantime."""
        while True:
            try:
                await self._consume()
            except (StoreUnavailable, DatabaseUnavailable) as error:
                await self._back_off(error)

    async def _consume(self) -> None:
        """Finish what an earlier failure left unacknowledged, then take what comes."""
        while entries := await self._outbox.read(self._settings.batch_events, unacknowledged=True):
            await self.record(entries)
        while True:
            await self.record(await self._next())

    async def _next(self) -> Sequence[Entry]:
        """Return entries of a dead consumer, if there are any, else new ones."""
        seconds = self._settings.claim_seconds
        if time.monotonic() >= self._claims_at:
            # Nobody leaves by itself: what a cancelled read is still given would be in no hands.
            await self._store.ended.forget_consumers(GROUP, FORGET_MS)
            batch = self._settings.batch_events
            if entries := await self._outbox.claim(batch, int(seconds * 1000)):
                return entries
            self._claims_at = time.monotonic() + seconds / 2
        return await self._outbox.read(self._settings.batch_events, block_ms=BLOCK_MS)

    async def record(self, entries: Sequence[Entry]) -> None:
        """Bring entries into the ledger and take them off the outbox, as many as fit at a time."""
        for batch in _batches(entries):
            await self._record_batch(batch)

    async def _record_batch(self, entries: Sequence[Entry]) -> None:
        usage = [entry for entry in entries if isinstance(entry, UsageEntry)]
        unreadable = [entry for entry in entries if isinstance(entry, UnreadableEntry)]
        began = time.time_ns()
        archived = {job.job_id: job for job in await read_finished(self._store, usage)}
        unreadable += await self._record(usage, archived)
        if unreadable:
            await self._set_aside(unreadable)
        await self._forget_erased(usage)
        aside = {entry.entry_id for entry in unreadable}
        recorded = [entry for entry in usage if entry.entry_id not in aside]
        await settle(self._store, self._database, [*recorded, *unreadable])
        await self._store.ended.archive(GROUP, [entry.entry_id for entry in entries])
        self._pause = 0.0
        ended = time.time_ns()
        metrics.ledger_batch_seconds.observe((ended - began) / 1e9)
        _time(recorded)
        write_bills(recorded, archived, (began, ended))

    async def _record(
        self, usage: Sequence[UsageEntry], archived: dict[str, ArchivedJob]
    ) -> list[UnreadableEntry]:
        """Record entries, halving the batch around those that cannot be; returns the latter."""
        if not usage:
            return []
        jobs = [archived[entry.job_id] for entry in usage if entry.job_id in archived]
        try:
            recorded = await self._ledger.record(usage, jobs)
        except DATA_ERRORS as error:
            if len(usage) == 1:
                return await self._record_alone(usage[0], error, archived=bool(jobs))
            half = len(usage) // 2
            wrong = await self._record(usage[:half], archived)
            return wrong + await self._record(usage[half:], archived)
        _count(recorded)
        await self._announce(recorded.tickets)
        return []

    async def _announce(self, tickets: Sequence[DeliveryTicket]) -> None:
        """Have webhooks delivered at once; those without a ticket are found a second later."""
        try:
            await push_tickets(self._store.redis, self._store.keys, tickets)
        except StoreUnavailable:
            log.warning("webhooks_not_announced", deliveries=len(tickets))

    async def _record_alone(
        self, entry: UsageEntry, error: Exception, *, archived: bool
    ) -> list[UnreadableEntry]:
        """Bill an entry without its archive, if that is to blame for the error."""
        if not archived:
            return [_poison(entry, error)]
        wrong = await self._record([entry], {})
        if not wrong:
            log.error("job_not_archived", job_id=entry.job_id, error=_kind(error))
        return wrong

    async def _set_aside(self, entries: Sequence[UnreadableEntry]) -> None:
        await self._ledger.set_aside(entries)
        metrics.ledger_events.labels("set_aside").inc(len(entries))
        for entry in entries:
            log.error("usage_set_aside", entry_id=entry.entry_id, reason=entry.reason)

    async def _forget_erased(self, usage: Sequence[UsageEntry]) -> None:
        """Delete from the archive what clients erased while it was being written.

        By us or by who died over these entries before. What they erase from here on, they erase
        from the archive too.
        """
        gone = await erased(self._store, [entry.job_id for entry in usage])
        if gone:
            await erase_archived(self._database, gone)

    async def _back_off(self, error: StoreUnavailable | DatabaseUnavailable) -> None:
        self._pause = min(LONGEST_PAUSE_SECONDS, self._pause * 2 or FIRST_PAUSE_SECONDS)
        log.warning(
            "ledger_waits",
            missing=error.code,
            cause=type(error.__cause__).__name__,
            seconds=self._pause,
        )
        await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))


def _poison(entry: UsageEntry, error: Exception) -> UnreadableEntry:
    values: dict[str, Any] = {name: getattr(entry, name) for name in UsageEntry.__slots__}
    text = {name: str(value).replace("\0", "�") for name, value in values.items()}
    text["job"] = text.pop("job_id")  # as the outbox names it
    # The first line says what is wrong; what follows it may quote the row.
    reason = f"{_kind(error)}: {str(_cause(error)).partition(chr(10))[0]}"
    return UnreadableEntry(entry.entry_id, text, reason)


def _cause(error: Exception) -> BaseException:
    """Return what the driver said, where SQLAlchemy wrapped it."""
    return getattr(error, "orig", None) or error


def _kind(error: Exception) -> str:
    return type(_cause(error)).__name__


def _time(recorded: Sequence[UsageEntry]) -> None:
    now = time.time()
    for entry in recorded:
        metrics.ledger_lag.observe(max(0.0, now - entry.finished / 1000))


def _count(recorded: RecordedUsage) -> None:
    metrics.ledger_events.labels("recorded").inc(recorded.events)
    metrics.ledger_events.labels("duplicate").inc(recorded.duplicates)
    for (model, currency), amount in recorded.charged.items():
        metrics.charged.labels(model, currency).inc(float(amount))
    for model in set(recorded.unpriced):
        count = recorded.unpriced.count(model)
        metrics.ledger_unpriced.labels(model).inc(count)
        log.error("usage_without_price", model=model, events=count)


def _batches(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    batch: list[Entry] = []
    tokens = 0
    for entry in entries:
        own = entry.input_tokens + entry.output_tokens if isinstance(entry, UsageEntry) else 0
        if batch and tokens + own > TOKENS_AT_ONCE:
            yield batch
            batch, tokens = [], 0
        batch.append(entry)
        tokens += own
    if batch:
        yield batch
