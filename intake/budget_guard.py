"""Budgets of this process: what a request may cost, held when its job is accepted.

Budgets and prices are remembered and read again every few seconds; the sums they are checked
against lie in Redis, where the accepting script looks. SQL is asked on the way of a request only
where nobody knows yet what an account spent this month. Invariant: a hard budget that says
`refuse` lets nothing pass that cannot be checked.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import orjson
import structlog

from billing.budgets.budgets import Budget, load_budgets, most, most_tokens
from billing.budgets.spending import spending_in
from billing.errors import DatabaseUnavailable
from billing.months import month_of
from billing.pricing.cost_cache import CostCache
from core.db.engine import Database
from core.errors import SpendingUnknown
from core.settings.billing import BillingSettings
from jobs.fairness import ServiceTier
from jobs.model_registry import ServedModel
from jobs.store.budget_reservations import BudgetLimit, BudgetMonth, BudgetReservation, to_nanos
from jobs.store.job_store import JobStore

log = structlog.get_logger()

REFRESH_SECONDS = 3.0
#: Budgets read longer ago than this may have been changed: they count as unknown.
STALE_SECONDS = 60.0
RETRY_AFTER_SECONDS = 5.0


class BudgetGuard:
    """Every account's budgets."""

    def __init__(
        self, database: Database, store: JobStore, costs: CostCache, settings: BillingSettings
    ) -> None:
        self._database = database
        self._store = store
        self._costs = costs
        self._when_unknown = settings.budgets_when_unknown
        self._by_account: dict[str, list[Budget]] = {}
        self._read_at: float | None = None

    async def keep_fresh(self) -> None:
        """Read the budgets again and again until cancelled."""
        while True:
            await self.refresh()
            await asyncio.sleep(REFRESH_SECONDS)

    async def refresh(self) -> None:
        """Read the budgets; when they cannot be read, the old ones stay for a while."""
        began = monotonic()
        try:
            async with self._database.read() as connection:
                budgets = await load_budgets(connection)
        except DatabaseUnavailable as error:
            log.warning("budgets_not_read", cause=type(error.__cause__).__name__)
            return
        by_account = defaultdict(list)
        for budget in budgets:
            by_account[budget.account].append(budget)
        self._by_account, self._read_at = dict(by_account), began

    def hold(
        self,
        account: str,
        key_id: str,
        model: ServedModel,
        tier: ServiceTier,
        body: dict[str, Any],
    ) -> BudgetReservation | None:
        """Return what a job must hold back, None where no budget covers it.

        Raises:
            SpendingUnknown: a budget cannot be checked, and refuses what it cannot check.
        """
        if self._read_at is None:
            if self._when_unknown == "refuse":
                raise _unknown("the budgets cannot be read at the moment")
            return None
        budgets = [b for b in self._by_account.get(account, ()) if b.key_id in ("", key_id)]
        if not budgets:
            return None
        if monotonic() - self._read_at > STALE_SECONDS:
            budgets = _not_refusing(budgets, "the budgets could not be read for a while")
        now = datetime.now(UTC)
        price = self._costs.prices.at(model.name, now)
        if price is None:
            _not_refusing(budgets, f"the price of {model.name} is not known")
            return None
        covering = [budget for budget in budgets if budget.currency == price.currency]
        if not covering:
            return None
        size = len(orjson.dumps(body))
        later = [p for p in self._costs.prices.versions(model.name) if p.valid_from > now]
        cost = most([price, *later], tier, most_tokens(body, size, model.max_model_len))
        bucket = BudgetMonth(account, month_of(now), price.currency)
        return BudgetReservation(bucket, to_nanos(cost, up=True), _limits(covering))

    async def find_out(self, hold: BudgetReservation) -> None:
        """Tell Redis what an account has spent, where it does not know.

        Raises:
            SpendingUnknown: SQL does not answer.
            StoreUnavailable: Redis does not.
        """
        try:
            async with self._database.read() as connection:
                sums = await spending_in(connection, hold.bucket)
        except DatabaseUnavailable as error:
            raise _unknown("what this account has spent cannot be read at the moment") from error
        await self._store.holds.settle([], [one.spent for one in sums])

    def lets_pass(self, hold: BudgetReservation) -> bool:
        """Whether every budget behind a hold lets pass what cannot be checked."""
        budgets = self._by_account.get(hold.bucket.account, ())
        scopes = {limit.scope for limit in hold.limits}
        return not any(_refuses(budget) for budget in budgets if budget.scope in scopes)


def _limits(budgets: Sequence[Budget]) -> tuple[BudgetLimit, ...]:
    return tuple(budget.limit for budget in budgets)


def _refuses(budget: Budget) -> bool:
    return budget.hard and budget.when_unknown == "refuse"


def _not_refusing(budgets: list[Budget], why: str) -> list[Budget]:
    if any(_refuses(budget) for budget in budgets):
        raise _unknown(why)
    return budgets


def _unknown(why: str) -> SpendingUnknown:
    return SpendingUnknown(
        f"{why}, and this account's budget refuses what cannot be checked",
        retry_after_seconds=RETRY_AFTER_SECONDS,
    )
