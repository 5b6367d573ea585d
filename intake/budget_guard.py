"""Reserves budget for jobs: the most a job can cost is held back when it is accepted.

Budgets and prices are cached in this process and read again every few seconds. The sums they are
checked against are in Redis, where the accepting script compares them. A request waits for SQL
only if Redis does not know yet what its account has spent this month. Invariant: a hard budget
with `when_unknown = refuse` never admits a job that cannot be checked. The event that a budget
refused a job is written with the next reading, so that no refusal waits for SQL.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import orjson
import structlog

from billing.budgets.budgets import Budget, load_budgets, max_cost, max_tokens
from billing.budgets.refusals import BudgetRefusal, write_refusals
from billing.budgets.spending import spending_in
from billing.months import month_of
from billing.pricing.cost_cache import CostCache
from core.db.database import Database
from core.errors import BudgetExceeded, DatabaseUnavailable, SpendingUnknown
from core.settings.billing import BillingSettings
from jobs.fairness import ServiceTier
from jobs.model_registry import ServedModel
from jobs.store.budget_reservations import ACCOUNT, BudgetMonth, BudgetReservation, to_nanos
from jobs.store.job_store import JobStore

log = structlog.get_logger()

REFRESH_SECONDS = 3.0
#: Budgets that were read longer ago count as unknown: they may have been changed since.
STALE_SECONDS = 60.0
RETRY_AFTER_SECONDS = 5.0


class BudgetGuard:
    """The budgets of all accounts, as this process knows them."""

    def __init__(
        self, database: Database, store: JobStore, costs: CostCache, settings: BillingSettings
    ) -> None:
        self._database = database
        self._store = store
        self._costs = costs
        self._when_unknown = settings.budgets_when_unknown
        self._by_account: dict[str, list[Budget]] = {}
        self._read_at: float | None = None
        self._refused: dict[str, BudgetRefusal] = {}
        self._told: tuple[str, set[str]] = "", set()  # a month, and its events' ids

    async def keep_fresh(self) -> None:
        """Read the budgets every `REFRESH_SECONDS` until cancelled."""
        while True:
            await self.refresh()
            await self.tell_refusals()
            await asyncio.sleep(REFRESH_SECONDS)

    async def refresh(self) -> None:
        """Read the budgets; if SQL is down, the old ones are used for `STALE_SECONDS`."""
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

    def reserve(
        self,
        account: str,
        key_id: str,
        model: ServedModel,
        tier: ServiceTier,
        body: dict[str, Any],
    ) -> BudgetReservation | None:
        """Return the reservation to submit a job with.

        Args:
            account: The account that pays.
            key_id: The API key whose budget pays; "" for none.
            model: The model that runs the job.
            tier: The service tier, which decides the price.
            body: The request's body, which bounds the tokens.

        Returns:
            The most the job can cost, in billionths of the budget's currency, and the limits to
            check; None if no budget covers the job.

        Raises:
            SpendingUnknown: a budget cannot be checked and refuses what it cannot check.
        """
        if self._read_at is None:
            if self._when_unknown == "refuse":
                raise _unknown("The budgets cannot be read at the moment")
            return None
        budgets = [b for b in self._by_account.get(account, ()) if b.key_id in ("", key_id)]
        if not budgets:
            return None
        if monotonic() - self._read_at > STALE_SECONDS:
            _check_allows_unknown(budgets, "The budgets have not been read for a while")
        now = datetime.now(UTC)
        price = self._costs.prices.at(model.name, now)
        if price is None:
            _check_allows_unknown(budgets, f"The price of model {model.name!r} is not known")
            return None
        covering = [budget for budget in budgets if budget.currency == price.currency]
        if not covering:
            return None
        size = len(orjson.dumps(body))
        later = [p for p in self._costs.prices.versions(model.name) if p.valid_from > now]
        cost = max_cost([price, *later], tier, max_tokens(body, size, model.max_model_len))
        bucket = BudgetMonth(account, month_of(now), price.currency)
        return BudgetReservation(
            bucket,
            to_nanos(cost, up=True),
            tuple(budget.limit(bucket.month) for budget in covering),
        )

    def note_refusal(
        self, reservation: BudgetReservation, model: str, error: BudgetExceeded
    ) -> None:
        """Note that a budget refused a job, for `tell_refusals`; each once a month and amount."""
        bucket = reservation.bucket
        if self._told[0] != bucket.month:
            self._told = bucket.month, set()
        of_account = error.budget["scope"] == "account"
        scopes = {limit.scope for limit in reservation.limits}
        for budget in self._by_account.get(bucket.account, ()):
            if budget.scope not in scopes or (budget.scope == ACCOUNT) is not of_account:
                continue
            needed, left = error.budget["needed"], error.budget["left"]
            now = datetime.now(UTC)
            refusal = BudgetRefusal(budget, bucket.month, model, needed, left, now)
            if refusal.event_id not in self._told[1]:
                self._refused.setdefault(refusal.event_id, refusal)

    async def tell_refusals(self) -> None:
        """Write the events of the refusals noted; if SQL is down, they are kept."""
        refused = list(self._refused.values())
        if not refused:
            return
        try:
            await write_refusals(self._database, refused)
        except DatabaseUnavailable as error:
            log.warning("budget_refusals_not_told", cause=type(error.__cause__).__name__)
            return
        for one in refused:
            del self._refused[one.event_id]
        self._told[1].update(one.event_id for one in refused)

    async def load_spending(self, reservation: BudgetReservation) -> None:
        """Read from SQL what an account has spent this month, and tell Redis.

        Raises:
            SpendingUnknown: SQL is down.
            StoreUnavailable: Redis is down.
        """
        try:
            async with self._database.read() as connection:
                sums = await spending_in(connection, reservation.bucket)
        except DatabaseUnavailable as error:
            raise _unknown("The account's spending cannot be read at the moment") from error
        await self._store.reservations.settle([], [one.spent for one in sums])

    def allows_unknown_spending(self, reservation: BudgetReservation) -> bool:
        """Return whether every budget of a reservation admits jobs that cannot be checked."""
        budgets = self._by_account.get(reservation.bucket.account, ())
        scopes = {limit.scope for limit in reservation.limits}
        return not any(_refuses_unknown(budget) for budget in budgets if budget.scope in scopes)


def _refuses_unknown(budget: Budget) -> bool:
    return budget.hard and budget.when_unknown == "refuse"


def _check_allows_unknown(budgets: Sequence[Budget], cause: str) -> None:
    if any(_refuses_unknown(budget) for budget in budgets):
        raise _unknown(cause)


def _unknown(cause: str) -> SpendingUnknown:
    return SpendingUnknown(
        f"{cause}, and a budget of this account refuses requests that cannot be checked",
        retry_after_seconds=RETRY_AFTER_SECONDS,
    )
