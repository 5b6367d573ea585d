"""Counts attempts to sign in, in Redis, with the generic cell rate algorithm."""

from typing import Any, NamedTuple

from core.redis.client import guarded
from core.redis.keys import Keys
from core.redis.scripts import Scripts


class AttemptLimit(NamedTuple):
    """A rate limit on attempts: at most `limit` per `seconds`, counted under `name`."""

    name: str
    limit: int
    seconds: float


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
