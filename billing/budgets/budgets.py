"""Budgets: how much an account or key may spend per UTC month, and the most a job can cost.

Invariant: an accepted job fits every hard budget that covers it, even at its highest cost. A job
whose budget cannot be checked is refused or accepted, as the budget's `when_unknown` says.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal

import httpx2
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from accounts.account_rows import ensure_account
from billing.errors import InvalidBudget
from billing.money import plain
from billing.pricing.rating import Price, TokenCounts, rate
from core.db.audit import audit
from core.db.database import Database
from core.db.tables.base import now, table_of, typed_row
from core.db.tables.budgets import BudgetRow, BudgetWarningRow
from core.db.tables.types import MICROS
from core.ids import new_id
from jobs.fairness import ServiceTier
from jobs.store.budget_reservations import ACCOUNT, BudgetLimit, to_nanos

#: An allowance, in tokens, for what a chat template adds to a prompt of text.
TEMPLATE_TOKENS = 512
LARGEST = Decimal(1_000_000_000)
MAX_PERCENT = 1000
WARN_PERCENTS = (50, 80, 100)

WhenUnknown = Literal["refuse", "allow"]


@dataclass(frozen=True, slots=True)
class Budget:
    """A budget of an account, or of one of its keys if `key_id` is not empty.

    `amount` is per UTC month, in units of `currency`.
    """

    account: str
    amount: Decimal
    key_id: str = ""
    currency: str = "USD"
    hard: bool = True
    when_unknown: WhenUnknown = "refuse"
    warn_percents: Sequence[int] = WARN_PERCENTS
    webhook: str | None = None
    webhook_secret: str | None = None
    id: str = ""

    @property
    def scope(self) -> str:
        """The scope that reservations use: the key's id, or ACCOUNT for the whole account."""
        return self.key_id or ACCOUNT

    @property
    def limit(self) -> BudgetLimit:
        """The limit that reservations are checked against, in nanos; None for a soft budget."""
        return BudgetLimit(self.scope, to_nanos(self.amount, up=False) if self.hard else None)


def max_tokens(body: dict[str, Any], size_bytes: int, context_tokens: int) -> TokenCounts:
    """Return the most tokens that a request in OpenAI's form can use.

    Text has no more tokens than bytes. For images and tools the bound is the whole context, since
    templates write tools out as text.

    Args:
        body: the request's body.
        size_bytes: its size.
        context_tokens: the model's context length.
    """
    if "input" in body:  # embeddings: any number of texts, and no output
        return TokenCounts(input=size_bytes, cached_input=0, output=0)
    requested = body.get("max_completion_tokens") or body.get("max_tokens") or context_tokens
    choices = int(body.get("n") or 1)
    is_text = _is_text(body)
    return TokenCounts(
        input=min(size_bytes + TEMPLATE_TOKENS, context_tokens) if is_text else context_tokens,
        cached_input=0,
        output=min(int(requested), context_tokens) * choices,
    )


def _is_text(body: dict[str, Any]) -> bool:
    contents = [message.get("content") for message in body.get("messages", ())]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return "tools" not in body and all(part.get("type") == "text" for part in parts)


def max_cost(prices: Iterable[Price], tier: ServiceTier, tokens: TokenCounts) -> Decimal:
    """Return the highest cost of these tokens, cached or not, at any of the prices."""
    highest = (replace(price, input=max(price.input, price.cached_input)) for price in prices)
    return max(rate(tokens, price, tier).total for price in highest)


async def load_budgets(
    connection: AsyncConnection, accounts: Collection[str] | None = None
) -> list[Budget]:
    """Return the budgets of these accounts, or all budgets."""
    table = table_of(BudgetRow)
    query = select(table).order_by(table.c.account_id, table.c.key_id)
    if accounts is not None:
        query = query.where(table.c.account_id.in_(accounts))
    return [
        Budget(
            account=row.account_id,
            amount=row.amount,
            key_id=row.key_id,
            currency=row.currency,
            hard=row.hard,
            when_unknown="allow" if row.when_unknown == "allow" else "refuse",
            warn_percents=tuple(row.warn_percents),
            webhook=row.webhook,
            webhook_secret=row.webhook_secret,
            id=row.id,
        )
        for row in (typed_row(BudgetRow, found) for found in await connection.execute(query))
    ]


async def set_budget(database: Database, budget: Budget, actor: str = "") -> Budget:
    """Set the budget of an account or key; it replaces an earlier one.

    Warnings that were sent stay, as far as their percentage is still reached with the new amount.

    Args:
        database: where it is stored.
        budget: `amount` in currency units per UTC month, with at most 6 decimals.
        actor: who sets it, for the audit log.

    Returns:
        The budget as stored, with its id.

    Raises:
        InvalidBudget: a value is out of range.
        DatabaseUnavailable: nothing was stored; try again later.
    """
    _check(budget)
    await ensure_account(database, budget.account)
    table = table_of(BudgetRow)
    async with database.write() as connection:
        own = (table.c.account_id == budget.account, table.c.key_id == budget.key_id)
        known = await connection.scalar(select(table.c.id).where(*own))
        budget = replace(budget, id=known or new_id("budget"))
        if known is None:
            await connection.execute(insert(BudgetRow), [_row(budget)])
        else:
            row = _row(budget)
            del row["created_at"]
            await connection.execute(update(table).where(*own).values(row))
            await _delete_untrue_warnings(connection, budget)
        await audit(
            connection,
            *(actor, "budget_set", budget.id),
            account=budget.account,
            key=budget.key_id,
            amount=plain(budget.amount),
            currency=budget.currency,
            hard=budget.hard,
        )
    return budget


async def _delete_untrue_warnings(connection: AsyncConnection, budget: Budget) -> None:
    """Delete warnings whose percentage is not reached any more, so that they can be sent again."""
    warning = BudgetWarningRow
    query = select(warning.id, warning.spent, warning.percent).where(warning.budget_id == budget.id)
    untrue = [
        row_id
        for row_id, spent, percent in await connection.execute(query)
        if spent * 100 < budget.amount * percent
    ]
    await connection.execute(delete(warning).where(warning.id.in_(untrue)))


async def remove_budget(
    database: Database, account: str, key_id: str = "", actor: str = ""
) -> bool:
    """Remove a budget; returns False if there was none."""
    table = table_of(BudgetRow)
    async with database.write() as connection:
        gone = await connection.execute(
            delete(table).where(table.c.account_id == account, table.c.key_id == key_id)
        )
        if gone.rowcount:
            await audit(connection, actor, "budget_removed", account, key=key_id)
    return bool(gone.rowcount)


def _row(budget: Budget) -> dict[str, Any]:
    instant = now()
    return {
        "id": budget.id,
        "account_id": budget.account,
        "key_id": budget.key_id,
        "amount": budget.amount,
        "currency": budget.currency,
        "hard": budget.hard,
        "when_unknown": budget.when_unknown,
        "warn_percents": sorted(set(budget.warn_percents)),
        "webhook": budget.webhook,
        "webhook_secret": budget.webhook_secret,
        "created_at": instant,
        "changed_at": instant,
    }


def _check(budget: Budget) -> None:
    amount, currency = budget.amount, budget.currency
    if not amount.is_finite() or not 0 <= amount <= LARGEST:
        raise InvalidBudget(f"amount: expected a number from 0 to {LARGEST}", param="amount")
    if amount != round(amount, MICROS):
        raise InvalidBudget(f"amount: expected at most {MICROS} decimals", param="amount")
    if not (len(currency) == 3 and currency.isascii() and currency.isupper()):
        raise InvalidBudget("currency: expected three capital letters", param="currency")
    if not all(0 < percent <= MAX_PERCENT for percent in budget.warn_percents):
        raise InvalidBudget(
            f"warn_percents: expected numbers from 1 to {MAX_PERCENT}", param="warn_percents"
        )
    if budget.webhook is not None and not _is_url(budget.webhook):
        raise InvalidBudget("webhook: expected an http or https URL", param="webhook")


def _is_url(text: str) -> bool:
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL:
        return False
    return url.scheme in ("http", "https") and bool(url.host)
