"""Helpers that fill months of the ledger, close them and read invoices and exports."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import insert, select

from billing.exports.content import Content, ExportRequest, open_content
from billing.invoices.close import ClosedMonth, close_month
from billing.invoices.invoices import Invoice, find_invoice
from billing.ledger.ledger import Ledger
from billing.pricing.rating import Price
from core.db.database import Database
from core.db.tables.accounts import AccountRow
from core.db.tables.base import table_of
from core.db.tables.usage import UsageEventRow
from core.ids import new_id
from core.settings.billing import SellerSettings
from jobs.fairness import ServiceTier
from jobs.status import Status
from jobs.store.usage_outbox import UsageEntry
from tests.support.ledger import a_price

MONTH = "2026-10"
NOON = datetime(2026, 10, 15, 12, tzinfo=UTC)
AFTER = datetime(2026, 11, 2, tzinfo=UTC)
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
SELLER = SellerSettings(name="Sluice GmbH", address="Am Wehr 1|10115 Berlin", tax_id="DE1")


def usage_entry(**fields: Any) -> UsageEntry:
    """Return a finished job's usage: in October, by acme, unless said otherwise."""
    finished: datetime = fields.pop("finished", NOON)
    end = round(finished.timestamp() * 1000)
    values: dict[str, Any] = {
        "entry_id": "1-1",
        "job_id": new_id("job"),
        "account": "acme",
        "key_id": "key_1",
        "model": "m",
        "service_tier": ServiceTier.DEFAULT,
        "status": Status.COMPLETED,
        "input_tokens": 1_000,
        "cached_input_tokens": 200,
        "output_tokens": 500,
        "created": end - 2_000,
        "started": end - 1_000,
        "finished": end,
        "run_ms": 900,
        "attempt": 1,
        "last_seq": 5,
    }
    return UsageEntry(**values | fields)


async def used(database: Database, *entries: UsageEntry) -> None:
    """Record usage in the ledger."""
    await Ledger(database).record(entries or [usage_entry()], [])


async def a_past_price(database: Database, model: str = "m", **fields: Any) -> Price:
    """Set a price that is valid since long ago."""
    return await a_price(database, model, **{"valid_from": LONG_AGO, **fields})


async def an_account(database: Database, account_id: str = "acme", **fields: Any) -> None:
    """Add an account with its billing details."""
    row = {"id": account_id, "billing_name": "Acme Ltd", "tax_id": "GB9", **fields}
    async with database.write() as connection:
        await connection.execute(insert(AccountRow), [row])


async def close(database: Database, month: str = MONTH, now: datetime = AFTER) -> ClosedMonth:
    """Close a month."""
    return await close_month(database, month, SELLER, "tester", now)


async def invoice_of(database: Database, number: str) -> Invoice:
    """Return an invoice with its lines."""
    async with database.read() as connection:
        return await find_invoice(connection, number, None)


async def events(database: Database) -> list[Any]:
    """Return the ledger's rows."""
    async with database.read() as connection:
        return list(await connection.execute(select(table_of(UsageEventRow))))


def amounts(rows: Iterable[Any]) -> Decimal:
    """Return the exact sum of the costs of ledger rows."""
    columns = ("input_amount", "cached_amount", "output_amount")
    return sum((getattr(row, name) for row in rows for name in columns), Decimal(0))


async def files_of(
    database: Database,
    write: Any,
    wanted: ExportRequest = ExportRequest(MONTH),  # noqa: B008
) -> dict[str, bytes]:
    """Return an export's files by name."""
    files: dict[str, bytes] = {}
    async with database.read() as connection:
        content: Content = await open_content(connection, wanted, SELLER)
        async for chunk in write(content):
            files[chunk.file] = files.get(chunk.file, b"") + chunk.data
    return files


def seconds(count: float) -> timedelta:
    """Return a short time."""
    return timedelta(seconds=count)
