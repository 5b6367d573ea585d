"""Counts tokens and charges by account, for as many accounts as a setting allows; by default none.

Invariant: the number of accounts in labels is bounded. The first ones that this process records get
a label of their own, the others share one.
"""

from collections.abc import Sequence

from core import metrics
from core.db.bulk_insert import Row

#: The label of all accounts beyond the allowed number; no account's id has parentheses.
OTHERS = "(other)"

#: Columns of the ledger by the kinds of tokens that metrics name.
TOKENS = {"input": "input_tokens", "cached_input": "cached_tokens", "output": "output_tokens"}
AMOUNTS = ("input_amount", "cached_amount", "output_amount")


class AccountMetrics:
    """The accounts that have a label of their own in this process."""

    def __init__(self, most: int) -> None:
        """Begin without accounts.

        Args:
            most: How many accounts may have a label of their own; with 0 nothing is counted.
        """
        self._most = most
        self._named: set[str] = set()

    def count(self, rows: Sequence[Row]) -> None:
        """Count usage events that were added to the ledger."""
        if not self._most:
            return
        for row in rows:
            account, model = self._label(row["account_id"]), row["model"]
            for kind, column in TOKENS.items():
                metrics.account_tokens.labels(account, model, kind).inc(row[column])
            if row["currency"] is not None:
                charged = metrics.account_charged.labels(account, model, row["currency"])
                charged.inc(float(sum(row[name] for name in AMOUNTS)))

    def _label(self, account: str) -> str:
        if account not in self._named:
            if len(self._named) >= self._most:
                return OTHERS
            self._named.add(account)
        return account
