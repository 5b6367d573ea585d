"""Limits how many operations of one kind run in this process at the same time.

Invariant: an operation over the limit is refused immediately; it never waits for a free place.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from core.errors import Overloaded

RETRY_AFTER_SECONDS = 10.0


class ConcurrencyLimit:
    """Allows a fixed number of operations of one kind at the same time, and fewer per account."""

    def __init__(self, limit: int, operations: str, per_account: int) -> None:
        """Create the limit.

        Args:
            limit: How many operations may run at the same time.
            operations: What they are, in the plural, for the error text.
            per_account: How many of one account may run at the same time.
        """
        self._limit = limit
        self._per_account = per_account
        self._running: Counter[str] = Counter()
        self._free = limit
        self._operations = operations

    @contextmanager
    def take(self, account: str) -> Iterator[None]:
        """Run one operation of an account for the length of a block.

        Raises:
            Overloaded: the limit of the account or of all is reached.
        """
        if self._running.get(account, 0) >= self._per_account:
            raise self._refusal(f"{self._per_account} of one account")
        if not self._free:
            raise self._refusal(str(self._limit))
        self._free -= 1
        self._running[account] += 1
        try:
            yield
        finally:
            self._free += 1
            self._running[account] -= 1
            if not self._running[account]:
                del self._running[account]

    def _refusal(self, most: str) -> Overloaded:
        return Overloaded(
            f"Too many {self._operations}: at most {most} may run at the same time."
            " Try again when one has finished.",
            retry_after_seconds=RETRY_AFTER_SECONDS,
        )
