"""Checks that what budgets count as spent in a month is the sum of the ledger."""

from typing import Any

from sqlalchemy import Select, and_, select

from billing.money import ZERO
from billing.reconcile.findings import FindingKind, Findings
from billing.reconcile.jobs import EVENTS
from billing.sums import exact_sum, in_nanos
from core.db.engine import Database
from core.db.tables.base import table_of
from core.db.tables.budgets import SpendingRow

SPENDING = table_of(SpendingRow)
SHARED = ("account_id", "currency", "key_id")
AMOUNTS = ("input_amount", "cached_amount", "output_amount")


async def check_spending(database: Database, month: str, findings: Findings) -> None:
    """Note every key whose counter differs; one statement sees both sides as of one moment."""
    findings.count("spending counters", 0)
    async with database.read() as connection:
        async for row in await connection.stream(_sums(month)):
            findings.count("spending counters")
            of = f"{row.account_id or row.account} {row.currency or row.counted_in}"
            key = f"spent by {row.key_id or row.key or 'no key'}"
            findings.differ(FindingKind.SPENDING, of, key, row.spent or ZERO, row.amount or ZERO)


def _sums(month: str) -> Select[Any]:
    spent = exact_sum(in_nanos(*(EVENTS.c[name] for name in AMOUNTS))).label("spent")
    rows = (
        select(*(EVENTS.c[name] for name in SHARED), spent)
        .where(EVENTS.c.month == month, EVENTS.c.price_version_id.is_not(None))
        .group_by(*(EVENTS.c[name] for name in SHARED))
        .cte("rows")
    )
    counters = select(SPENDING).where(SPENDING.c.month == month).cte("counters")
    on = and_(*(rows.c[name] == counters.c[name] for name in SHARED))
    return select(
        rows,
        counters.c.account_id.label("account"),
        counters.c.currency.label("counted_in"),
        counters.c.key_id.label("key"),
        counters.c.amount,
    ).select_from(rows.outerjoin(counters, on, full=True))
