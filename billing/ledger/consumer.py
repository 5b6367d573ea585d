"""Moves usage from the Redis outbox into the ledger, as a member of a consumer group.

One batch at a time: read entries, fetch the finished jobs, commit everything in one transaction,
update budgets, acknowledge. Invariant: a consumer killed between any two steps loses no entry and
counts none twice. An entry that cannot be recorded is set aside and does not block the others.
"""

import asyncio
import time
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any

import structlog

from billing.ledger.account_metrics import AccountMetrics
from billing.ledger.billing_span import write_billing_spans
from billing.ledger.ledger import DATA_ERRORS, Ledger, RecordedUsage
from billing.ledger.settlement import settle_budgets
from core import metrics
from core.backoff import Backoff
from core.db.database import Database
from core.errors import DatabaseUnavailable, StoreUnavailable
from core.settings.billing import BillingSettings
from jobs.archive.archived_job import ArchivedJob, erased, read_finished
from jobs.archive.job_archive import erase_archived
from jobs.store.job_store import JobStore
from jobs.store.usage_outbox import Entry, Outbox, UnreadableEntry, UsageEntry
from webhooks.tickets import DeliveryTicket, push_tickets

log = structlog.get_logger()

#: The consumer group of the outbox stream; there is one ledger.
GROUP = "ledger"

#: The outcomes of an entry, as the metric labels them.
OUTCOMES = ("recorded", "duplicate", "set_aside")

NO_ACCOUNTS = AccountMetrics(0)

BLOCK_MS = 1_000

#: Cap on tokens held in memory per batch while results are archived; a single job may have more.
MAX_BATCH_TOKENS = 1_000_000

#: A consumer idle for this long is removed from the group: it stopped or was killed.
IDLE_CONSUMER_MS = 600_000
BACKOFF = Backoff(base_seconds=0.1, cap_seconds=10.0)


class OutboxConsumer:
    """One member of the ledger's consumer group. Any number may run, in any process."""

    def __init__(
        self,
        store: JobStore,
        database: Database,
        settings: BillingSettings,
        name: str,
        accounts: AccountMetrics = NO_ACCOUNTS,
    ) -> None:
        """Prepare a consumer.

        Args:
            store: The job store, with the outbox.
            database: The database with the ledger.
            settings: How large batches are, and when entries of a dead consumer are taken over.
            name: The consumer's name in its group.
            accounts: The process's metrics by account.
        """
        self._accounts = accounts
        self._store = store
        self._database = database
        self._ledger = Ledger(database)
        self._settings = settings
        self._outbox = Outbox(store.redis, store.keys, GROUP, name)
        self._claims_at = 0.0
        #: Why nothing can be consumed now; None if all is well.
        self.problem: str | None = "has not read the outbox yet"
        self._failures = 0
        self._random = Random()
        for outcome in OUTCOMES:  # series exist from the start: one that begins at 1 hides its rise
            metrics.ledger_events.labels(outcome)

    async def run(self) -> None:
        """Consume until cancelled. While Redis or SQL is unavailable, wait and try again."""
        while True:
            try:
                await self._consume()
            except (StoreUnavailable, DatabaseUnavailable) as error:
                await self._back_off(error)

    async def _consume(self) -> None:
        """Process entries left unacknowledged by an earlier failure, then new ones."""
        while entries := await self._outbox.read(self._settings.batch_events, unacknowledged=True):
            await self.record(entries)
        while True:
            await self.record(await self._next())
            self.problem = None

    async def _next(self) -> Sequence[Entry]:
        """Return entries of a dead consumer if there are any, else wait BLOCK_MS for new ones."""
        seconds = self._settings.claim_seconds
        if time.monotonic() >= self._claims_at:
            # Remove idle consumers: a cancelled read may still have been assigned entries.
            await self._store.ended.forget_consumers(GROUP, IDLE_CONSUMER_MS)
            batch = self._settings.batch_events
            if entries := await self._outbox.claim(batch, int(seconds * 1000)):
                return entries
            self._claims_at = time.monotonic() + seconds / 2
        return await self._outbox.read(self._settings.batch_events, block_ms=BLOCK_MS)

    async def record(self, entries: Sequence[Entry]) -> None:
        """Record entries in the ledger and acknowledge them, at most MAX_BATCH_TOKENS at a time.

        Args:
            entries: what was read from the outbox; entries that cannot be parsed are set aside.

        Raises:
            StoreUnavailable, DatabaseUnavailable: entries not acknowledged yet will be read again;
                recording them again changes nothing.
        """
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
        await self._delete_erased(usage)
        aside = {entry.entry_id for entry in unreadable}
        recorded = [entry for entry in usage if entry.entry_id not in aside]
        await settle_budgets(self._store, self._database, [*recorded, *unreadable])
        await self._store.ended.archive(GROUP, [entry.entry_id for entry in entries])
        self._failures = 0
        ended = time.time_ns()
        metrics.ledger_batch_seconds.observe((ended - began) / 1e9)
        _observe_lag(recorded)
        write_billing_spans(recorded, archived, (began, ended))

    async def _record(
        self, usage: Sequence[UsageEntry], archived: dict[str, ArchivedJob]
    ) -> list[UnreadableEntry]:
        """Record entries, halving the batch around those that fail; returns the ones that fail."""
        if not usage:
            return []
        jobs = [archived[entry.job_id] for entry in usage if entry.job_id in archived]
        try:
            recorded = await self._ledger.record(usage, jobs)
        except DATA_ERRORS as error:
            if len(usage) == 1:
                return await self._record_alone(usage[0], error, archived=bool(jobs))
            half = len(usage) // 2
            refused = await self._record(usage[:half], archived)
            return refused + await self._record(usage[half:], archived)
        _count(recorded)
        self._accounts.count(recorded.rows)
        await self._announce(recorded.tickets)
        return []

    async def _announce(self, tickets: Sequence[DeliveryTicket]) -> None:
        """Queue tickets for webhook deliveries; the deliverer finds the others a second later."""
        try:
            await push_tickets(self._store.redis, self._store.keys, tickets)
        except StoreUnavailable:
            log.warning("webhooks_not_announced", deliveries=len(tickets))

    async def _record_alone(
        self, entry: UsageEntry, error: Exception, *, archived: bool
    ) -> list[UnreadableEntry]:
        """Record an entry without its archive, in case the archive caused the error."""
        if not archived:
            return [_unreadable(entry, error)]
        refused = await self._record([entry], {})
        if not refused:
            log.error("job_not_archived", job_id=entry.job_id, error=_kind(error))
        return refused

    async def _set_aside(self, entries: Sequence[UnreadableEntry]) -> None:
        await self._ledger.set_aside(entries)
        metrics.ledger_events.labels("set_aside").inc(len(entries))
        for entry in entries:
            log.error("usage_set_aside", entry_id=entry.entry_id, reason=entry.reason)

    async def _delete_erased(self, usage: Sequence[UsageEntry]) -> None:
        """Delete from the archive the jobs that clients erased while the archive was written.

        Erasures from here on reach the archive by themselves.
        """
        erased_ids = await erased(self._store, [entry.job_id for entry in usage])
        if erased_ids:
            await erase_archived(self._database, erased_ids)

    async def _back_off(self, error: StoreUnavailable | DatabaseUnavailable) -> None:
        self._failures += 1
        self.problem = f"waits: {error.code}"
        pause = BACKOFF.delay(self._failures, self._random)
        log.warning(
            "ledger_waits",
            missing=error.code,
            cause=type(error.__cause__).__name__,
            seconds=round(pause, 3),
        )
        await asyncio.sleep(pause)


def _unreadable(entry: UsageEntry, error: Exception) -> UnreadableEntry:
    values: dict[str, Any] = {name: getattr(entry, name) for name in UsageEntry.__slots__}
    text = {
        name: str(value).replace("\0", "�") for name, value in values.items() if value is not None
    }
    text["job"] = text.pop("job_id")  # as the outbox names it
    # The first line names the problem; the lines after it may quote the row.
    reason = f"{_kind(error)}: {str(_cause(error)).partition(chr(10))[0]}"
    return UnreadableEntry(entry.entry_id, text, reason)


def _cause(error: Exception) -> BaseException:
    """Return the driver's error where SQLAlchemy wrapped it."""
    return getattr(error, "orig", None) or error


def _kind(error: Exception) -> str:
    return type(_cause(error)).__name__


def _observe_lag(recorded: Sequence[UsageEntry]) -> None:
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
        size = entry.input_tokens + entry.output_tokens if isinstance(entry, UsageEntry) else 0
        if batch and tokens + size > MAX_BATCH_TOKENS:
            yield batch
            batch, tokens = [], 0
        batch.append(entry)
        tokens += size
    if batch:
        yield batch
