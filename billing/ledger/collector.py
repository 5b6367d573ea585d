"""What SQL shows at the moment of a scrape: whether it answers, GPU rates, budgets.

Invariant: what cannot be read is absent; an account is never named.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric
from sqlalchemy import Select, func, select

from billing.budgets.budgets import Budget, load_budgets
from billing.budgets.spending import SpentSum, spending_since
from billing.months import month_of
from billing.pricing.gpu_rates import GpuRate, load_gpu_rates
from core.db.engine import Database
from core.db.tables.base import table_of
from core.db.tables.webhooks import WebhookDeliveryRow
from core.errors import DatabaseUnavailable
from core.exposition import ScrapeCollector
from jobs.store.budget_reservations import BudgetMonth

READ_SECONDS = 3.0
NEAR_PERCENT = 80
STATES = ("fine", "near", "used_up")


@dataclass(frozen=True, slots=True)
class MoneyState:
    """Rates in force now, budgets by state, and deliveries that should have been tried by now."""

    rates: Sequence[GpuRate]
    budgets: dict[str, int]
    overdue: int
    overdue_seconds: float


async def read_money(database: Database) -> MoneyState:
    """Look at everything. Raises DatabaseUnavailable."""
    instant = datetime.now(UTC)
    month = month_of(instant)
    async with database.read() as connection:
        rates = await load_gpu_rates(connection)
        budgets = await load_budgets(connection)
        accounts = {budget.account for budget in budgets}
        sums = await spending_since(connection, accounts, month) if budgets else []
        overdue, first = (await connection.execute(_overdue(instant))).one()
    waited = (instant - first).total_seconds() if overdue else 0.0
    in_force = {rate.model: rate for rate in rates if rate.valid_from <= instant}
    return MoneyState(list(in_force.values()), _states(budgets, sums, month), overdue, waited)


def _overdue(instant: datetime) -> Select[int, Any]:
    due = table_of(WebhookDeliveryRow).c.due_at
    return select(func.count(), func.min(due)).where(due <= instant)


def _states(budgets: Sequence[Budget], sums: Sequence[SpentSum], month: str) -> dict[str, int]:
    spent = {(one.bucket, one.scope): one.amount for one in sums}
    found = Counter(dict.fromkeys(STATES, 0))
    for budget in budgets:
        bucket = BudgetMonth(budget.account, month, budget.currency)
        amount = spent.get((bucket, budget.scope), 0)
        near = amount * 100 >= budget.amount * NEAR_PERCENT
        found["used_up" if amount >= budget.amount else "near" if near else "fine"] += 1
    return dict(found)


class MoneyCollector(ScrapeCollector):
    """Reads SQL over a database that lives on another thread's loop."""

    def __init__(self, database: Database, loop: asyncio.AbstractEventLoop) -> None:
        self._database = database
        self._loop = loop

    def collect(self) -> Iterator[Metric]:
        """Return what SQL shows; only `penstock_database_up` when it is away."""
        state = self._read()
        up = float(state is not None)
        yield GaugeMetricFamily("penstock_database_up", "1 when SQL answered this scrape", value=up)
        if state is None:
            return
        rates = GaugeMetricFamily(
            "penstock_worker_hour_cost",
            "What one worker of a model costs per hour, in units of the currency",
            labels=["model", "currency"],
        )
        for rate in state.rates:
            rates.add_metric([rate.model, rate.currency], float(rate.per_hour))
        yield rates
        budgets = GaugeMetricFamily(
            "penstock_budgets",
            "Budgets of this month by state: fine, near, used_up",
            labels=["state"],
        )
        for name, count in state.budgets.items():
            budgets.add_metric([name], count)
        yield budgets
        text = "Deliveries that are due"
        yield GaugeMetricFamily("penstock_webhooks_due", text, value=state.overdue)
        text = "How long the oldest of them has been due"
        yield GaugeMetricFamily(
            "penstock_webhooks_due_age_seconds", text, value=state.overdue_seconds
        )

    def _read(self) -> MoneyState | None:
        reading = asyncio.run_coroutine_threadsafe(read_money(self._database), self._loop)
        try:
            return reading.result(READ_SECONDS)
        except (DatabaseUnavailable, FutureTimeoutError):
            reading.cancel()
            return None
