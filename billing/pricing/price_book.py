"""Which price was valid at an instant: an immutable value, loaded by `billing.pricing.prices`.

Invariant: at each instant a model has at most one price: the latest version that has started.
"""

from bisect import bisect_right
from collections.abc import Iterable
from datetime import datetime
from operator import attrgetter

from billing.pricing.rating import Price


class PriceBook:
    """All versions of all models' prices."""

    def __init__(self, prices: Iterable[Price] = ()) -> None:
        self._versions: dict[str, list[Price]] = {}
        for price in sorted(prices, key=attrgetter("valid_from")):
            self._versions.setdefault(price.model, []).append(price)
        self._starts = {
            model: [price.valid_from for price in versions]
            for model, versions in self._versions.items()
        }

    def at(self, model: str, instant: datetime) -> Price | None:
        """Return a model's price at an instant; None if it had none yet."""
        starts = self._starts.get(model)
        index = bisect_right(starts, instant) if starts else 0
        return self._versions[model][index - 1] if index else None

    def versions(self, model: str | None = None) -> list[Price]:
        """Return the price versions of one model, or of all, oldest first."""
        models = sorted(self._versions) if model is None else [model]
        return [price for name in models for price in self._versions.get(name, ())]
