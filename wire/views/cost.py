"""A cost as clients see it: exact decimals in text, which JSON's numbers are not."""

from collections.abc import Callable, Mapping
from typing import Any

from billing.money import plain
from billing.pricing.cost_cache import NOT_ENDED, JobCost
from billing.pricing.rating import Cost

#: Bills a job from the data of its `finished` event.
Billing = Callable[[Mapping[str, Any]], JobCost]


def unbilled(_finished: Mapping[str, Any]) -> JobCost:
    """Show no cost."""
    return NOT_ENDED


def cost_object(cost: Cost | None) -> dict[str, str] | None:
    """Return a cost with the price it was computed with."""
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
