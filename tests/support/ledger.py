"""Helpers that end jobs, consume their usage and read the ledger."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from sqlalchemy import select

from billing.ledger.account_metrics import AccountMetrics
from billing.ledger.consumer import GROUP, OutboxConsumer
from billing.pricing.prices import NewPrice, set_price
from billing.pricing.rating import Price
from core.db.database import Database
from core.db.tables.base import table_of
from core.db.tables.usage import ArchivedJobRow, SetAsideEntryRow, UsageEventRow
from core.settings.billing import BillingSettings
from jobs.status import Status
from jobs.store.job_store import JobStore
from jobs.store.transitions import Ending
from jobs.store.usage_outbox import Outbox
from tests.support.jobs import QUEUE, submission, write
from tests.support.waiting import eventually


async def end_jobs(
    store: JobStore,
    count: int,
    status: Status = Status.COMPLETED,
    *,
    weights: str = "",
    **fields: Any,
) -> list[str]:
    """Submit jobs, run them by hand with one token each, and end them."""
    jobs = [submission(**fields) for _ in range(count)]
    for job in jobs:
        await store.submit(job)
    left = count
    while left:
        for claimed in await store.claim(jobs[0].queue, "w1", left, weights):
            await write(store, claimed, claimed.seq, [7], ending=Ending(status))
            left -= 1
    return [job.id for job in jobs]


async def a_price(database: Database, model: str = QUEUE, **fields: Any) -> Price:
    """Set a price from now on."""
    values: dict[str, Any] = {
        "input": Decimal("0.20"),
        "cached_input": Decimal("0.05"),
        "output": Decimal("0.30"),
        "priority": Decimal("1.5"),
        "flex": Decimal("0.5"),
        **fields,
    }
    return await set_price(database, NewPrice(model, **values))


@asynccontextmanager
async def consuming(
    store: JobStore, database: Database, name: str = "c1", **settings: Any
) -> AsyncIterator[OutboxConsumer]:
    """Run a consumer for the length of a block."""
    billing = BillingSettings(**settings)
    accounts = AccountMetrics(billing.metric_accounts)
    consumer = OutboxConsumer(store, database, billing, name, accounts)
    task = asyncio.create_task(consumer.run())
    try:
        yield consumer
        if task.done():
            await task  # raises what ended it
            raise AssertionError("the consumer ended")
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until_consumed(store: JobStore, seconds: float = 20.0) -> None:
    """Wait until the outbox is empty."""
    outbox = Outbox(store.redis, store.keys, GROUP, "")

    async def empty() -> bool:
        return await outbox.backlog() == 0

    await eventually(empty, seconds)


async def usage_of(database: Database) -> dict[str, Any]:
    """Return the ledger's rows by job."""
    return {row.job_id: row for row in await _all(database, UsageEventRow)}


def amounts(row: Any) -> tuple[Decimal, Decimal, Decimal]:
    """Return what a row of the ledger charges for input, cached input and output."""
    return row.input_amount, row.cached_amount, row.output_amount


async def archived(database: Database) -> Sequence[Any]:
    """Return the archived jobs."""
    return await _all(database, ArchivedJobRow)


async def set_aside(database: Database) -> Sequence[Any]:
    """Return the entries that were set aside."""
    return await _all(database, SetAsideEntryRow)


async def _all(database: Database, table: Any) -> Sequence[Any]:
    async with database.read() as connection:
        return (await connection.execute(select(table_of(table)))).all()
