"""Idempotency keys of batches: what each was first used for.

Invariant: of many that use one key at once, all are told the same first use.
"""

from typing import Any

from redis.asyncio import Redis

from core.redis.client import guarded
from core.redis.keys import Keys


class BatchKeys:
    """The idempotency keys that batches were made with."""

    def __init__(self, redis: Redis, keys: Keys, keep_seconds: int) -> None:
        self._read: Any = redis
        self._keys = keys
        self._keep_ms = keep_seconds * 1000

    async def first(self, account: str, key: str, batch: str) -> str:
        """Return what an idempotency key was first used for; from now on, at the latest, this.

        Raises:
            StoreUnavailable: come back later.
        """
        name = self._keys.batch_key(account, key)
        async with guarded():
            kept = await self._read.set(name, batch, nx=True, get=True, px=self._keep_ms)
        return batch if kept is None else str(kept.decode())

    async def known(self, account: str, key: str) -> str | None:
        """Return what an idempotency key was first used for, if it was.

        Raises:
            StoreUnavailable: come back later.
        """
        async with guarded():
            kept = await self._read.get(self._keys.batch_key(account, key))
        return None if kept is None else str(kept.decode())
