"""Metrics that the ledger process reads from SQL at each scrape: GPU rates, budgets, due webhooks.

Invariant: a value that cannot be read is absent, and no label names an account.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import TimeoutError as FutureTimeoutError
from dataclasses import dataclass
from datetime import UTC, datetime

from prometheus_client.core import GaugeMetricFamily, Metric

from billing.budgets.budgets import Budget, load_budgets
from billing.budgets.spending import SpentSum, spending_since
from billing.months import month_of
from billing.pricing.gpu_rates import GpuRate, load_gpu_rates
from core.db.database import Database
from core.errors import DatabaseUnavailable
from core.exposition import ScrapeCollector
from jobs.store.budget_reservations import BudgetMonth
from webhooks.deliveries import backlog

READ_SECONDS = 3.0
NEAR_PERCENT = 80
STATES = ("fine", "near", "used_up")


@dataclass(frozen=True, slots=True)
class MoneyState:
    """GPU rates in force now, budgets counted by state, and webhook deliveries that are due."""

    rates: Sequence[GpuRate]
    budgets: dict[str, int]
    overdue: int
    overdue_seconds: float


async def read_money(database: Database) -> MoneyState:
    """Read everything that a scrape shows.

    Raises:
        DatabaseUnavailable: SQL does not answer.
    """
    instant = datetime.now(UTC)
    month = month_of(instant)
    async with database.read() as connection:
        rates = await load_gpu_rates(connection)
        budgets = await load_budgets(connection)
        accounts = {budget.account for budget in budgets}
        sums = await spending_since(connection, accounts, month) if budgets else []
    overdue, waited = await backlog(database)
    in_force = {rate.model: rate for rate in rates if rate.valid_from <= instant}
    return MoneyState(list(in_force.values()), _states(budgets, sums, month), overdue, waited)


def _states(budgets: Sequence[Budget], sums: Sequence[SpentSum], month: str) -> dict[str, int]:
    spent = {(spent.bucket, spent.scope): spent.amount for spent in sums}
    counts = Counter(dict.fromkeys(STATES, 0))
    for budget in budgets:
        bucket = BudgetMonth(budget.account, month, budget.currency)
        amount = spent.get((bucket, budget.scope), 0)
        near = amount * 100 >= budget.amount * NEAR_PERCENT
        counts["used_up" if amount >= budget.amount else "near" if near else "fine"] += 1
    return dict(counts)


class MoneyCollector(ScrapeCollector):
    """Reads SQL through a database whose event loop runs in another thread."""

    def __init__(self, database: Database, loop: asyncio.AbstractEventLoop) -> None:
        self._database = database
        self._loop = loop

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics; only `penstock_database_up` while SQL does not answer."""
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
        text = "Webhook deliveries that are due"
        yield GaugeMetricFamily("penstock_webhooks_due", text, value=state.overdue)
        text = "How long the oldest due webhook delivery has been due"
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
