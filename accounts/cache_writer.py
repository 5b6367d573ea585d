"""Writes the Redis hash that caches the records of all callers.

Invariant: the cache is never replaced by something older. Each write names the generation that it
was read at, and `replace_callers.lua` refuses it when the cache has changed since.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from accounts.cache_scripts import MarkCompleteArgs, ReplaceCallersArgs
from core.redis.client import guarded
from core.redis.keys import Keys
from core.redis.scripts import Scripts

#: The field of the hash that says that every caller is in it.
COMPLETE = "whole"
#: The field that counts changes of the hash.
GENERATION = "generation"
#: The field with the token of the last comparison of all callers.
COMPARISON = "begun"
OWN_FIELDS = frozenset({COMPLETE, GENERATION, COMPARISON})


class CallerCacheWriter:
    """Writes the cache. Every call may raise StoreUnavailable."""

    def __init__(self, redis: Any, keys: Keys, scripts: Scripts) -> None:
        self._redis = redis
        self._keys = keys
        self._scripts = scripts

    async def generation(self) -> tuple[str, bool]:
        """Return the generation for a later `replace`, and whether the cache is complete."""
        async with guarded():
            found, complete = await self._redis.hmget(self._keys.callers, GENERATION, COMPLETE)
        return (found or b"").decode(), complete is not None

    async def read(self, fields: Sequence[str]) -> list[bytes | None]:
        """Return the cached record of each field, None for a field without one."""
        if not fields:
            return []
        async with guarded():
            found: list[bytes | None] = await self._redis.hmget(self._keys.callers, *fields)
        return found

    async def scan(self, cursor: int, count: int) -> tuple[int, list[str]]:
        """Return the next cursor (0 at the end), and some of the fields that callers have."""
        async with guarded():
            after, found = await self._redis.hscan(self._keys.callers, cursor, count=count)
        return after, [field for field in map(bytes.decode, found) if field not in OWN_FIELDS]

    async def begin_comparison(self, token: str) -> None:
        """Note that all callers are about to be compared; a cache that is lost forgets it."""
        async with guarded():
            await self._redis.hset(self._keys.callers, COMPARISON, token)

    async def end_comparison(self, token: str) -> None:
        """Mark the cache as complete, unless it was lost since `begin_comparison`."""
        await self._scripts.call("mark_complete", *MarkCompleteArgs(token))

    async def replace(self, generation: str, records: Mapping[str, bytes | None]) -> bool:
        """Write records, unless the cache has changed since.

        Args:
            generation: What `generation` returned before SQL was read.
            records: Encoded record by field; None removes the field.

        Returns:
            False when the cache has changed, so that SQL must be read again.

        Raises:
            StoreUnavailable: It may or may not have happened.
        """
        pairs = [part for field, record in records.items() for part in (field, record or b"")]
        named = ReplaceCallersArgs(generation)
        return bool(await self._scripts.call("replace_callers", *named, *pairs) == 1)

    async def take_turn(self, name: str, seconds: float) -> bool:
        """Return True to one process per `seconds`: a task that only one process should do."""
        async with guarded():
            got = await self._redis.set(
                f"{self._keys.callers}:{name}", "1", nx=True, px=int(seconds * 1000)
            )
        return bool(got)

    async def server_id(self) -> str:
        """Return the id of the running Redis server; a restarted one has another id."""
        async with guarded():
            info = await self._redis.info("server")
        return str(info["run_id"])
