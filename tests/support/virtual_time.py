"""The real scripts on a clock that the test sets: only their calls of TIME are replaced."""

import hashlib
from typing import Any

from jobs.store.job_store import JobStore

ASKED = "local asked\n"


class VirtualTime:
    """A store's clock, in milliseconds."""

    def __init__(self, store: JobStore, now: int = 1_800_000_000_000) -> None:
        self._store = store
        self._key = f"{store.keys.prefix}:clock"
        self.now = now
        scripts: Any = store._scripts
        for name, source in scripts._source.items():
            assert source.count(ASKED) == 1 or "'TIME'" not in source
            told = f"local asked = redis.call('HMGET', '{self._key}', 's', 'us')\n"
            scripts._source[name] = source.replace(ASKED, told)
            changed = scripts._source[name].encode()
            scripts._sha[name] = hashlib.sha1(changed, usedforsecurity=False).hexdigest()

    async def set(self, now: int) -> None:
        """Set the clock, in milliseconds."""
        self.now = now
        moment: dict[str, Any] = {"s": now // 1000, "us": now % 1000 * 1000}
        await self._store.redis.hset(self._key, mapping=moment)

    async def advance(self, milliseconds: int) -> None:
        """Move the clock by this many milliseconds; it may go back."""
        await self.set(self.now + milliseconds)
