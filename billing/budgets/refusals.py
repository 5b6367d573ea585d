"""The event that a hard budget refused a job: spending may stop below 100 % and stay there.

Invariant: each budget tells it once a month and amount, however many processes refuse jobs.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from billing.budgets.budgets import Budget
from billing.money import plain
from core.db.database import Database
from webhooks.events import NewEvent, Receiver, add_events, listeners

EVENT = "budget.refused"


@dataclass(frozen=True, slots=True)
class BudgetRefusal:
    """The first job that a budget refused in a month.

    `needed` is the most that it could have cost, `left` what was left; both in the budget's
    currency.
    """

    budget: Budget
    month: str
    model: str
    needed: str
    left: str
    at: datetime

    @property
    def event_id(self) -> str:
        """The event's id. It covers the amount: a changed budget tells it again."""
        allowed = plain(self.budget.allowance(self.month))
        name = f"{self.budget.id} {self.month} refused {allowed}"
        return f"evt_{hashlib.sha256(name.encode()).hexdigest()[:32]}"


async def write_refusals(database: Database, refusals: Sequence[BudgetRefusal]) -> None:
    """Add the events of refusals.

    Args:
        database: where events are stored.
        refusals: what was refused; one that was told already adds nothing.

    Raises:
        DatabaseUnavailable: nothing was added; try again later.
    """
    async with database.write() as connection:
        known = await listeners(connection, {one.budget.account for one in refusals})
        await add_events(connection, [_event(one) for one in refusals], known)


def _event(refusal: BudgetRefusal) -> NewEvent:
    budget = refusal.budget
    return NewEvent(
        account=budget.account,
        type=EVENT,
        data={
            "account": budget.account,
            "key_id": budget.key_id or None,
            "month": refusal.month,
            "budget": plain(budget.amount),
            "currency": budget.currency,
            "left": refusal.left,
            "needed": refusal.needed,
            "model": refusal.model,
        },
        id=refusal.event_id,
        at=refusal.at,
        own=Receiver(budget.id, budget.webhook) if budget.webhook else None,
    )
