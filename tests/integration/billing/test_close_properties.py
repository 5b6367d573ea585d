"""Random histories of usage, prices, adjustments and closes: each event is billed exactly once."""

import asyncio
import shutil
import tempfile
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr
from sqlalchemy import select

from billing.errors import MonthClosed
from billing.invoices.close import close_month
from billing.invoices.credits import NewAdjustment, adjust
from billing.ledger.ledger import Ledger
from billing.money import to_micros
from billing.months import month_of
from billing.reconcile.findings import Findings
from billing.reconcile.invoices import check_invoices
from billing.reconcile.ledger import check_ledger
from billing.reconcile.spending import check_spending
from core.db.database import Database
from core.db.tables.base import table_of
from core.db.tables.invoices import InvoiceLineRow, InvoiceRow
from core.db.tables.usage import UsageEventRow
from core.settings.billing import DatabaseSettings
from jobs.fairness import ServiceTier
from jobs.status import Status
from tests.support.months import SELLER, a_past_price, an_account, usage_entry

START = datetime(2026, 8, 1, tzinfo=UTC)
END = datetime(2027, 1, 1, tzinfo=UTC)
MONTHS = ("2026-08", "2026-09", "2026-10", "2026-11", "2026-12")
EDGES = [datetime(2026, month, 1, tzinfo=UTC) for month in (9, 10, 11, 12)]
MILLISECOND = timedelta(milliseconds=1)

instants = st.one_of(
    st.sampled_from([edge - MILLISECOND for edge in EDGES] + EDGES),
    st.integers(0, (END - START) // MILLISECOND - 1).map(lambda ms: START + ms * MILLISECOND),
)
counts = st.integers(0, 10**6)
use = st.fixed_dictionaries(
    {
        "account": st.sampled_from(["acme", "zeta"]),
        "model": st.sampled_from(["m", "n"]),
        "finished": instants,
        "status": st.sampled_from([status for status in Status if status.is_terminal]),
        "service_tier": st.sampled_from(ServiceTier),
        "input_tokens": st.integers(10**6, 10**7),
        "cached_input_tokens": counts,
        "output_tokens": counts,
    }
)
correct = st.tuples(st.sampled_from(MONTHS), st.decimals(-9, 9, places=6).filter(bool))
steps = st.lists(st.one_of(use, correct, st.sampled_from(MONTHS)), max_size=25)
amounts = st.decimals(0, 9, places=6)


async def live_through(database: Database, history: list[Any], second: Decimal) -> None:
    """Do every step, then close what is still open."""
    await an_account(database)
    await a_past_price(database)
    await a_past_price(database, "n", valid_from=START, output=second, currency="EUR")
    closed: list[str] = []
    for step in history:
        match step:
            case dict():
                await Ledger(database).record([usage_entry(**step)], [])
            case (month, amount):
                try:
                    await adjust(database, NewAdjustment("acme", amount, "because", month))
                except MonthClosed:
                    assert month in closed
            case month:
                closed += await close_up_to(database, month)
    await close_up_to(database, MONTHS[-1])
    later = datetime(2027, 2, 1, tzinfo=UTC)
    await close_month(database, "2027-01", SELLER, now=later)


async def close_up_to(database: Database, last: str) -> list[str]:
    wanted = [month for month in MONTHS if month <= last]
    for month in wanted:
        await close_month(database, month, SELLER, now=END)
    return wanted


async def check(database: Database) -> None:
    """Every charged event is on exactly one line, and each line is the sum of its events."""
    usage, line, invoice = table_of(UsageEventRow), table_of(InvoiceLineRow), table_of(InvoiceRow)
    async with database.read() as connection:
        events = (await connection.execute(select(usage))).all()
        query = select(line, invoice.c.account_id, invoice.c.month, invoice.c.currency)
        lines = (await connection.execute(query.join(invoice))).all()
        totals = (await connection.execute(select(invoice.c.id, invoice.c.total))).all()
    exact: Counter[Any] = Counter()
    tokens: Counter[Any] = Counter()
    for event in events:
        assert event.late == (event.month != month_of(event.finished_at))
        assert event.month >= month_of(event.finished_at)
        for kind, column in (("input", "input"), ("cached_input", "cached"), ("output", "output")):
            key = (event.account_id, event.month, event.currency, event.model, event.service_tier,
                   event.price_version_id, event.late, kind)  # fmt: skip
            exact[key] += getattr(event, f"{column}_amount")
            tokens[key] += getattr(event, f"charged_{column}_tokens")
    billed = {
        (row.account_id, row.month, row.currency, row.model, row.service_tier,
         row.price_version_id, row.late, row.token_kind): row
        for row in lines if row.kind == "usage"
    }  # fmt: skip
    assert set(billed) == {key for key, count in tokens.items() if count}
    for key, row in billed.items():
        assert (row.tokens, row.amount) == (tokens[key], to_micros(exact[key]))
    assert len(billed) == sum(row.kind == "usage" for row in lines)
    for invoice_id, total in totals:
        assert total == sum(row.amount for row in lines if row.invoice_id == invoice_id)


async def reconciled(database: Database) -> None:
    """Check that reconciliation, an independent computation, finds no difference."""
    for month in (*MONTHS, "2027-01"):
        findings = Findings(20)
        await check_ledger(database, month, findings)
        await check_spending(database, month, findings)
        await check_invoices(database, month, findings)
        assert findings.clean, findings.listed


@given(steps, amounts)
@settings(max_examples=25, deadline=None)
def test_every_event_is_billed_once_in_the_right_month(
    sqlite_template: Path, history: list[Any], second: Decimal
) -> None:
    async def go(folder: str) -> None:
        file = shutil.copy(sqlite_template, folder)
        database = Database(DatabaseSettings(url=SecretStr(f"sqlite+aiosqlite:///{file}")), "test")
        try:
            await live_through(database, history, second)
            await check(database)
            await reconciled(database)
        finally:
            await database.close()

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(go(folder))
