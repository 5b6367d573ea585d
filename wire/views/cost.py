"""What a job cost, in two forms.

Our own objects have `cost`, whose amounts are exact decimals as text, because JSON numbers are not
exact. In OpenAI's `usage` objects `cost` is a number, as the clients that read it declare it, and
the exact amounts are beside it in `cost_details`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from billing.money import plain
from billing.pricing.cost_cache import NOT_ENDED, JobCost
from billing.pricing.rating import Cost

#: Finds the cost of a job from the data of its `finished` event.
CostLookup = Callable[[Mapping[str, Any]], JobCost]


def no_cost(_finished: Mapping[str, Any]) -> JobCost:
    """Return no cost, for streams that do not show one."""
    return NOT_ENDED


def usage_cost(cost: Cost | None) -> dict[str, Any]:
    """Return the fields of a `usage` object that say what the job cost; none without a cost."""
    if cost is None:
        return {}
    return {"cost": float(cost.total), "cost_details": cost_object(cost)}


def cost_object(cost: Cost | None) -> dict[str, str] | None:
    """Build the cost object, with the version of the price; None without a cost."""
    if cost is None:
        return None
    return {
        "total": plain(cost.total),
        "currency": cost.currency,
        "input": plain(cost.input),
        "cached_input": plain(cost.cached_input),
        "output": plain(cost.output),
        "multiplier": plain(cost.multiplier),
        "price_version": cost.price_id,
    }
