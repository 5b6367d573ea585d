"""Migrations and tables agree; no statement can change settled rows."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import insert, select, text
from sqlalchemy.exc import IntegrityError, StatementError

from core.db.database import Database
from core.db.schema_version import check, downgrade, revisions, upgrade
from core.db.tables.accounts import AccountRow
from core.db.tables.audit import AuditEntryRow
from core.db.tables.base import Base
from core.db.tables.invoices import AdjustmentRow, ClosedMonthRow, InvoiceLineRow, InvoiceRow
from core.db.tables.prices import PriceRow, PriceVersion
from core.db.tables.usage import UsageEventRow
from core.settings.billing import DatabaseSettings

NOON = datetime(2026, 11, 22, 12, 0, 0, 123_000, UTC)


def usage_event(job_id: str = "job_1", **values: Any) -> dict[str, Any]:
    """Return an unpriced event."""
    return {
        "job_id": job_id,
        "account_id": "acme",
        "key_id": "key_1",
        "model": "m",
        "service_tier": "default",
        "status": "completed",
        "attempt": 1,
        "last_seq": 3,
        "input_tokens": 5,
        "cached_tokens": 2,
        "output_tokens": 7,
        "run_ms": 12,
        "created_at": NOON,
        "started_at": NOON,
        "finished_at": NOON,
        "recorded_at": NOON,
        "month": "2026-11",
        "late": False,
        "charged_input_tokens": 3,
        "charged_cached_tokens": 2,
        "charged_output_tokens": 7,
        **values,
    }


async def test_up_check_down_and_up_again(empty_database: DatabaseSettings) -> None:
    def go() -> None:
        upgrade(empty_database)
        check(empty_database)
        current, head = revisions(empty_database)
        assert current == head
        downgrade(empty_database)
        assert revisions(empty_database)[0] is None
        upgrade(empty_database)
        check(empty_database)

    await asyncio.to_thread(go)


async def test_amounts_and_times_are_read_back_as_written(database: Database) -> None:
    exact = Decimal("12345.12345678901234")
    priced = {
        "price_version_id": "price_1",
        "currency": "EUR",
        "multiplier": Decimal("1.25"),
        "input_amount": exact,
        "cached_amount": Decimal(0),
        "output_amount": Decimal("0.00000000000001"),
    }
    async with database.write() as connection:
        await connection.execute(insert(UsageEventRow), [usage_event(**priced)])
    async with database.read() as connection:
        row = (await connection.execute(select(UsageEventRow.__table__))).one()
    assert row.input_amount == exact
    assert row.output_amount == Decimal("1e-14")
    assert row.multiplier == Decimal("1.25")
    assert row.finished_at == NOON


@pytest.mark.parametrize(
    "wrong",
    [
        {"multiplier": Decimal("1.005")},
        {"input_amount": Decimal("1e-15")},
        {"finished_at": NOON.replace(tzinfo=None)},
    ],
)
async def test_nothing_is_rounded_and_no_time_is_guessed(
    database: Database, wrong: dict[str, Any]
) -> None:
    with pytest.raises(StatementError):
        async with database.write() as connection:
            await connection.execute(insert(UsageEventRow), [usage_event(**wrong)])


@pytest.mark.parametrize(
    "wrong", [{"output_tokens": -1}, {"cached_tokens": 6}, {"charged_output_tokens": 8}]
)
async def test_impossible_usage_is_refused(database: Database, wrong: dict[str, Any]) -> None:
    with pytest.raises(IntegrityError):
        async with database.write() as connection:
            await connection.execute(insert(UsageEventRow), [usage_event(**wrong)])


ADD_LINE = """
INSERT INTO invoice_lines (invoice_id, position, kind, amount, description, late, jobs, tokens)
VALUES ('inv_1', 2, 'usage', 1, '', false, 0, 0)
"""


async def settle(database: Database) -> None:
    """Write a row of everything that must stay, and an issued invoice with a line."""
    version = {
        "id": "price_1",
        "model": "m",
        "currency": "USD",
        "valid_from": NOON,
        "priority_multiplier": Decimal(1),
        "flex_multiplier": Decimal(1),
    }
    invoice = {
        "id": "inv_1",
        "number": "2026-10-1",
        "account_id": "acme",
        "month": "2026-10",
        "currency": "USD",
        "total": Decimal("1.5"),
    }
    line = {"invoice_id": "inv_1", "position": 1, "kind": "usage", "amount": Decimal("1.5")}
    credit = {"account_id": "acme", "month": "2026-10", "currency": "USD", "reason": "an outage"}
    async with database.write() as connection:
        await connection.execute(insert(AccountRow), [{"id": "acme"}])
        await connection.execute(insert(PriceVersion), [version])
        price = {"version_id": "price_1", "kind": "input", "per_million": Decimal("0.2")}
        await connection.execute(insert(PriceRow), [price])
        await connection.execute(insert(UsageEventRow), [usage_event()])
        await connection.execute(
            insert(AdjustmentRow), [{"id": "adj_1", "amount": Decimal(-1), **credit}]
        )
        await connection.execute(
            insert(AuditEntryRow), [{"actor": "me", "action": "test", "target": "t"}]
        )
        await connection.execute(insert(InvoiceRow), [invoice])
        await connection.execute(insert(InvoiceLineRow), [line])
        # A draft may change.
        await connection.execute(text("UPDATE invoice_lines SET description = 'usage'"))
        await connection.execute(text("UPDATE invoices SET issued_at = created_at"))
        await connection.execute(insert(ClosedMonthRow), [{"month": "2026-09"}])


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE prices SET per_million = 1",
        "DELETE FROM prices",
        "UPDATE price_versions SET model = 'other'",
        "DELETE FROM price_versions",
        "UPDATE usage_events SET output_tokens = 0",
        "UPDATE usage_events SET month = '2026-12'",
        "UPDATE usage_events SET weights = 'others'",
        "DELETE FROM usage_events",
        "UPDATE adjustments SET reason = ''",
        "DELETE FROM adjustments",
        "UPDATE audit_log SET actor = 'another actor'",
        "DELETE FROM audit_log",
        "UPDATE invoices SET total = 0",
        "UPDATE invoices SET issued_at = NULL",
        "DELETE FROM invoices",
        "UPDATE invoice_lines SET amount = 0",
        "DELETE FROM invoice_lines",
        ADD_LINE,
    ],
)
async def test_what_is_settled_cannot_be_changed(database: Database, statement: str) -> None:
    await settle(database)
    with pytest.raises(IntegrityError, match="append-only"):
        async with database.write() as connection:
            await connection.execute(text(statement))


@pytest.mark.parametrize(
    "statement", ["UPDATE closed_months SET month = '2026-08'", "DELETE FROM closed_months"]
)
async def test_a_closed_month_stays_closed(database: Database, statement: str) -> None:
    await settle(database)
    with pytest.raises(IntegrityError, match="append-only"):
        async with database.write() as connection:
            await connection.execute(text(statement))


SHARED = {"account_id": "acme", "month": "2026-09", "currency": "USD"}


@pytest.mark.parametrize(
    ("table", "row"),
    [
        (UsageEventRow, usage_event("job_2", month="2026-09")),
        (AdjustmentRow, {"id": "adj_2", "amount": Decimal(1), "reason": "late", **SHARED}),
        (InvoiceRow, {"id": "inv_2", "number": "INV-2", "total": Decimal(1), **SHARED}),
    ],
)
async def test_a_closed_month_takes_no_more_rows(
    database: Database, table: type[Base], row: dict[str, Any]
) -> None:
    await settle(database)
    async with database.write() as connection:
        await connection.execute(insert(table), [row | {"month": "2026-12"}])
    another = {name: f"{row[name]}b" for name in ("id", "number", "job_id") if name in row}
    with pytest.raises(IntegrityError, match="append-only"):
        async with database.write() as connection:
            await connection.execute(insert(table), [row | another])


TABLES = ("price_versions", "prices", "usage_events", "adjustments", "audit_log", "invoices",
          "invoice_lines", "closed_months")  # fmt: skip


@pytest.mark.parametrize("table", TABLES)
async def test_emptying_or_replacing_is_refused_too(database: Database, table: str) -> None:
    """`TRUNCATE` of the one database, `REPLACE` of the other: neither is an update or a delete."""
    await settle(database)
    replace = f"REPLACE INTO {table} SELECT * FROM {table}"
    statement = replace if database.is_sqlite else f"TRUNCATE {table} CASCADE"
    with pytest.raises(IntegrityError, match="append-only"):
        async with database.write() as connection:
            await connection.execute(text(statement))


async def test_an_unpriced_event_is_priced_once(database: Database) -> None:
    await settle(database)
    price = text("UPDATE usage_events SET price_version_id = 'price_1', currency = 'USD'")
    async with database.write() as connection:
        await connection.execute(price)
    with pytest.raises(IntegrityError, match="append-only"):
        async with database.write() as connection:
            await connection.execute(price)
