"""Idempotency keys of batches: the batch that each key was first used for.

Invariant: concurrent requests with one key all get the same first batch.
"""

from typing import Any

from redis.asyncio import Redis

from core.redis.client import guarded
from core.redis.keys import Keys


class BatchKeys:
    """The idempotency keys that batches were made with. Calls may raise StoreUnavailable."""

    def __init__(self, redis: Redis, keys: Keys, keep_seconds: int) -> None:
        self._read: Any = redis
        self._keys = keys
        self._keep_ms = keep_seconds * 1000

    async def first(self, account: str, key: str, batch: str) -> str:
        """Return the batch that a key was first used for; a new key is bound to `batch`."""
        name = self._keys.batch_key(account, key)
        async with guarded():
            kept = await self._read.set(name, batch, nx=True, get=True, px=self._keep_ms)
        return batch if kept is None else str(kept.decode())

    async def known(self, account: str, key: str) -> str | None:
        """Return the batch that a key was first used for, or None for a new key."""
        async with guarded():
            kept = await self._read.get(self._keys.batch_key(account, key))
        return None if kept is None else str(kept.decode())
