"""Limits the concurrent fetches, so that an account's slow servers delay only this account.

Used on one event loop. Invariant: at most `per_account` fetches of one account run, and only they
compete for the places of the process; the further ones of the account wait in its own line.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class FetchSlots:
    """The places for fetches of one process."""

    def __init__(self, total: int, per_account: int) -> None:
        self._total = asyncio.Semaphore(total)
        self._per_account = per_account
        self._accounts: dict[str, asyncio.Semaphore] = {}
        self._users: Counter[str] = Counter()

    @asynccontextmanager
    async def take(self, account: str) -> AsyncIterator[None]:
        """Wait for a place, and hold it for the length of a block."""
        own = self._accounts.setdefault(account, asyncio.Semaphore(self._per_account))
        self._users[account] += 1
        try:
            async with own, self._total:
                yield
        finally:
            self._users[account] -= 1
            if not self._users[account]:
                del self._users[account], self._accounts[account]
