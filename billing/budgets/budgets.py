"""Budgets: how much an account or key may spend per UTC month, and the most a job can cost.

Invariant: an accepted job fits every hard budget that covers it, even at its highest cost. A job
whose budget cannot be checked is refused or accepted, as the budget's `when_unknown` says.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from billing.budgets.credited import credited_in
from billing.money import ZERO, total
from billing.months import month_of
from billing.pricing.rating import Price, TokenCounts, rate
from core.db.tables.base import now, table_of, typed_row
from core.db.tables.budgets import BudgetRow
from jobs.fairness import ServiceTier
from jobs.prompts import choices_of, output_limit_of, prompts_of
from jobs.store.budget_reservations import ACCOUNT, BudgetLimit, BudgetMonth, to_nanos

#: An allowance, in tokens, for what a chat template adds to a prompt of text.
TEMPLATE_TOKENS = 512
LARGEST = Decimal(1_000_000_000)
MAX_PERCENT = 1000
WARN_PERCENTS = (50, 80, 100)

WhenUnknown = Literal["refuse", "allow"]


@dataclass(frozen=True, slots=True)
class Budget:
    """A budget of an account, or of one of its keys if `key_id` is not empty.

    A key's budget covers the keys that rotations made from it. `amount` is per UTC month, in units
    of `currency`; in the month `credited_month` adjustments have given back `credited` of it.
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
    credited: Decimal = ZERO
    credited_month: str = ""

    @property
    def scope(self) -> str:
        """The scope that reservations use: the key's id, or ACCOUNT for the whole account."""
        return self.key_id or ACCOUNT

    def allowance(self, month: str) -> Decimal:
        """Return what may be spent in a month: the amount, and what was credited in it."""
        return total(self.amount, self.credited if month == self.credited_month else ZERO)

    def limit(self, month: str) -> BudgetLimit:
        """Return what a month's reservations are checked against, None for a soft budget."""
        allowed = to_nanos(self.allowance(month), up=False)
        return BudgetLimit(self.scope, allowed if self.hard else None)


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
    limit = output_limit_of(body)
    requested = context_tokens if limit is None else limit
    whole = context_tokens * max(1, len(prompts_of(body)))
    return TokenCounts(
        input=min(size_bytes + TEMPLATE_TOKENS, whole) if _is_text(body) else whole,
        cached_input=0,
        output=min(requested, context_tokens) * choices_of(body),
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
    connection: AsyncConnection, accounts: Collection[str] | None = None, month: str = ""
) -> list[Budget]:
    """Return the budgets of these accounts, or all budgets, with the credits of a month.

    Args:
        connection: the database.
        accounts: whose budgets; None for all.
        month: a UTC month; the current one if empty.
    """
    table = table_of(BudgetRow)
    query = select(table).order_by(table.c.account_id, table.c.key_id)
    if accounts is not None:
        query = query.where(table.c.account_id.in_(accounts))
    month = month or month_of(now())
    budgets = [
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
    if not budgets:
        return []
    credited = await credited_in(connection, month)
    return [
        replace(
            budget,
            credited=credited.get(
                (BudgetMonth(budget.account, month, budget.currency), budget.scope), ZERO
            ),
            credited_month=month,
        )
        for budget in budgets
    ]
