"""Checks that the amounts which budgets count as spent are the sums of the ledger."""

from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import Select, and_, select

from billing.money import ZERO
from billing.reconcile.findings import FindingKind, Findings
from billing.reconcile.jobs import EVENTS
from billing.sums import exact_sum, in_nanos
from core.db.database import Database
from core.db.tables.base import table_of
from core.db.tables.budgets import SpendingRow

SPENDING = table_of(SpendingRow)
SHARED = ("account_id", "currency", "key_id")
AMOUNTS = ("input_amount", "cached_amount", "output_amount")


class _SpendingPair(NamedTuple):
    """A key's sum in the ledger beside its counter; either may be missing."""

    account_id: str | None
    currency: str | None
    key_id: str | None
    spent: Decimal | None
    counter_account_id: str | None
    counter_currency: str | None
    counter_key_id: str | None
    counted: Decimal | None


async def check_spending(database: Database, month: str, findings: Findings) -> None:
    """Note each key whose counter differs; one statement reads both sides."""
    findings.count("spending counters", 0)
    async with database.read() as connection:
        async for found in await connection.stream(_sums(month)):
            row = _SpendingPair(*found)
            findings.count("spending counters")
            subject = f"{row.account_id or row.counter_account_id}"
            subject += f" {row.currency or row.counter_currency}"
            key = f"spent by {row.key_id or row.counter_key_id or 'no key'}"
            findings.differ(
                FindingKind.SPENDING, subject, key, row.spent or ZERO, row.counted or ZERO
            )


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
        *(counters.c[name] for name in SHARED),
        counters.c.amount,
    ).select_from(rows.outerjoin(counters, on, full=True))
