"""Counts attempts to sign in, in Redis, with the generic cell rate algorithm.

It also keeps the places from which people signed in: a bounded number of hashes for each person,
which only a right password adds to.
"""

import time
from typing import Any, NamedTuple

from core.redis.client import guarded
from core.redis.keys import Keys
from core.redis.scripts import Scripts


class AttemptLimit(NamedTuple):
    """A rate limit on attempts: at most `limit` per `seconds`, counted under `name`."""

    name: str
    limit: int
    seconds: float


class KnownPlaces(NamedTuple):
    """The places of one person: at most `limit`, each for `seconds` after its last use."""

    name: str
    limit: int
    seconds: int


class SignInAttempts:
    """Counts attempts to sign in, for all API processes together."""

    def __init__(self, redis: Any, keys: Keys, scripts: Scripts) -> None:
        self._redis = redis
        self._keys = keys
        self._scripts = scripts

    async def count(self, *limits: AttemptLimit) -> float:
        """Count one attempt against every limit, or against none of them.

        Returns:
            0 when it is allowed, else the seconds to wait.

        Raises:
            StoreUnavailable: It cannot be counted.
        """
        triples = [
            part
            for limit in limits
            for part in (limit.name, limit.limit, int(limit.seconds * 1000))
        ]
        return int(await self._scripts.call("count_sign_in", *triples)) / 1000

    async def forgive(self, name: str) -> None:
        """Forget the attempts under a name, after a successful one."""
        async with guarded():
            await self._redis.delete(self._keys.sign_in(name))

    async def is_known(self, places: KnownPlaces, place: str) -> bool:
        """Return whether a place is one of a person's.

        Raises:
            StoreUnavailable: It cannot be read.
        """
        async with guarded():
            used_at = await self._redis.zscore(self._keys.sign_in(places.name), place)
        return used_at is not None and used_at > time.time() - places.seconds

    async def remember(self, places: KnownPlaces, place: str) -> bool:
        """Add a place, or renew it; the places that were used longest ago make room.

        Returns:
            Whether it was known before.

        Raises:
            StoreUnavailable: It cannot be written.
        """
        key, instant = self._keys.sign_in(places.name), time.time()
        async with guarded(), self._redis.pipeline(transaction=True) as pipeline:
            pipeline.zremrangebyscore(key, "-inf", instant - places.seconds)
            pipeline.zadd(key, {place: instant})
            pipeline.zremrangebyrank(key, 0, -places.limit - 1)
            pipeline.expire(key, places.seconds)
            _, added, *_ = await pipeline.execute()
        return not added
