"""Stores usage events in SQL, with the job's archive and its webhook events, in one transaction.

Invariant: one usage event per job, whichever process records it and however often. An event is
never changed, except that an unpriced one may get its price while its month is open.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import orjson
from sqlalchemy import bindparam, select, update
from sqlalchemy.exc import DataError, IntegrityError, StatementError
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.ledger.job_events import job_events
from billing.ledger.recording import PRICE_COLUMNS, price_columns, usage_row
from billing.money import ZERO, total
from billing.pricing.prices import load_prices
from billing.pricing.rating import TokenCounts
from core.db.bulk_insert import Row, insert_missing
from core.db.database import Database
from core.db.locks import share_ledger
from core.db.tables.base import table_of, typed_row
from core.db.tables.invoices import ClosedMonthRow
from core.db.tables.usage import ArchivedJobRow, SetAsideEntryRow, UsageEventRow
from jobs.archive.archived_job import ArchivedJob
from jobs.fairness import ServiceTier
from jobs.store.usage_outbox import UnreadableEntry, UsageEntry
from webhooks.events import add_events, listeners
from webhooks.tickets import DeliveryTicket

#: Errors that the data causes: to try again would fail again.
DATA_ERRORS = (
    *(DataError, IntegrityError, StatementError),
    *(ValueError, ArithmeticError, orjson.JSONEncodeError),
)

MAX_RERATED = 1_000

#: Most characters archived by one statement, so that each stays short; a single job may be larger.
MAX_ARCHIVED_CHARACTERS = 4_000_000


@dataclass(frozen=True, slots=True)
class RecordedUsage:
    """What one batch added.

    `unpriced` has the model of each event without a price; `charged` has amounts by model and
    currency, in its units. It and `rows`, the new rows of the ledger, are empty if some events were
    duplicates, since it is unknown which.
    """

    events: int
    duplicates: int
    unpriced: Sequence[str]
    tickets: Sequence[DeliveryTicket]
    charged: Mapping[tuple[str, str], Decimal]
    rows: Sequence[Row]


class Ledger:
    """The ledger of one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(
        self, entries: Sequence[UsageEntry], archived: Sequence[ArchivedJob]
    ) -> RecordedUsage:
        """Add usage events and archived jobs; existing ones stay unchanged.

        Args:
            entries: usage of finished jobs, from the outbox.
            archived: the records and results of those jobs that are still in Redis.

        Returns:
            How many events were new, and the tickets of the webhook deliveries that were added.

        Raises:
            DatabaseUnavailable: nothing was added; try again later.
            DATA_ERRORS: nothing was added; one of the entries is invalid.
        """
        now = datetime.now(UTC)
        async with self._database.write() as connection:
            await share_ledger(connection)
            prices, closed = await load_prices(connection), await closed_months(connection)
            rows = [usage_row(entry, prices, closed, now) for entry in entries]
            added = await insert_missing(connection, table_of(UsageEventRow), rows)
            for part in _parts(_archive_rows(rows, archived)):
                await insert_missing(connection, table_of(ArchivedJobRow), part)
            tickets = await _add_job_events(connection, rows, archived)
        unpriced = [row["model"] for row in rows if row["price_version_id"] is None]
        new = rows if added == len(rows) else []
        return RecordedUsage(added, len(rows) - added, unpriced, tickets, _charged(new), new)

    async def set_aside(self, entries: Sequence[UnreadableEntry]) -> None:
        """Keep entries that cannot be recorded, with the reason, for an operator to review."""
        rows = [
            {
                "entry_id": entry.entry_id,
                "fields": orjson.dumps(entry.fields).decode(),
                "reason": entry.reason.replace("\0", ""),
                "set_aside_at": datetime.now(UTC),
            }
            for entry in entries
        ]
        async with self._database.write() as connection:
            await insert_missing(connection, table_of(SetAsideEntryRow), rows)

    async def rate_unpriced(self) -> tuple[int, int]:
        """Price unpriced events whose price at the time the job finished is known by now.

        Returns:
            How many events were priced, and how many are still unpriced.
        """
        done, left, after = 0, 0, ""
        while True:
            async with self._database.write() as connection:
                await share_ledger(connection)
                rows = await _unpriced(connection, after)
                found = await _rate(connection, rows)
            done, left = done + found, left + len(rows) - found
            if len(rows) < MAX_RERATED:
                return done, left
            after = rows[-1].job_id


async def _add_job_events(
    connection: AsyncConnection, rows: Sequence[Row], archived: Sequence[ArchivedJob]
) -> Sequence[DeliveryTicket]:
    """Add the webhook events of jobs that have a receiver; returns the deliveries' tickets."""
    known = await listeners(connection, {row["account_id"] for row in rows})
    events = job_events(rows, {job.job_id: job for job in archived}, known)
    return await add_events(connection, events, known)


def _charged(rows: Sequence[Row]) -> dict[tuple[str, str], Decimal]:
    """Add up the amounts of priced rows, by model and currency."""
    sums: dict[tuple[str, str], Decimal] = {}
    for row in rows:
        if row["currency"] is not None:
            key = (row["model"], row["currency"])
            amounts = (row["input_amount"], row["cached_amount"], row["output_amount"])
            sums[key] = total(sums.get(key, ZERO), *amounts)
    return sums


def _archive_rows(rows: Sequence[Row], archived: Sequence[ArchivedJob]) -> list[Row]:
    by_id = {row["job_id"]: row for row in rows}
    return [
        {
            "job_id": job.job_id,
            "account_id": by_id[job.job_id]["account_id"],
            "finished_at": by_id[job.job_id]["finished_at"],
            "record": job.record.decode(),
            "result": job.result.decode(),
        }
        for job in archived
    ]


def _parts(rows: Sequence[Row]) -> Iterator[list[Row]]:
    part: list[Row] = []
    size = 0
    for row in rows:
        size += len(row["record"]) + len(row["result"])
        if part and size > MAX_ARCHIVED_CHARACTERS:
            yield part
            part, size = [], len(row["record"]) + len(row["result"])
        part.append(row)
    if part:
        yield part


async def closed_months(connection: AsyncConnection) -> frozenset[str]:
    """Return the closed months, which accept no more usage."""
    return frozenset(await connection.scalars(select(ClosedMonthRow.month)))


async def _unpriced(connection: AsyncConnection, after: str) -> Sequence[UsageEventRow]:
    table = table_of(UsageEventRow)
    waiting = select(table).where(
        table.c.price_version_id.is_(None),
        table.c.job_id > after,
        table.c.month.not_in(select(ClosedMonthRow.month)),
    )
    result = await connection.execute(waiting.order_by(table.c.job_id).limit(MAX_RERATED))
    return [typed_row(UsageEventRow, row) for row in result]


async def _rate(connection: AsyncConnection, rows: Sequence[UsageEventRow]) -> int:
    prices = await load_prices(connection)
    changes = []
    for row in rows:
        price = prices.at(row.model, row.finished_at)
        if price is not None:
            charged = TokenCounts(
                row.charged_input_tokens, row.charged_cached_tokens, row.charged_output_tokens
            )
            columns = price_columns(charged, price, ServiceTier(row.service_tier))
            changes.append({"id": row.job_id, **columns})
    if changes:
        table = table_of(UsageEventRow)
        change = (
            update(table)
            .where(table.c.job_id == bindparam("id"), table.c.price_version_id.is_(None))
            .values({name: bindparam(name) for name in PRICE_COLUMNS})
        )
        await connection.execute(change, changes)
    return len(changes)
