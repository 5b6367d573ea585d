"""Limits how many operations of one kind run in this process at the same time.

Invariant: an operation over the limit is refused immediately; it never waits for a free place.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from core.errors import Overloaded

RETRY_AFTER_SECONDS = 10.0


class ConcurrencyLimit:
    """Allows a fixed number of operations of one kind at the same time."""

    def __init__(self, limit: int, operations: str) -> None:
        """Create the limit.

        Args:
            limit: How many operations may run at the same time.
            operations: What they are, in the plural, for the error text.
        """
        self._limit = limit
        self._free = limit
        self._operations = operations

    @contextmanager
    def take(self) -> Iterator[None]:
        """Run one operation for the length of a block.

        Raises:
            Overloaded: the limit is reached.
        """
        if not self._free:
            raise Overloaded(
                f"Too many {self._operations}: at most {self._limit} may run at the same time."
                " Try again when one has finished.",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1
