"""What the workers say about themselves in their heartbeats."""

from typing import Any

import orjson
from redis.exceptions import RedisError

from core.redis.client import unavailable
from intake.services import Services


async def is_connected(api: Services) -> bool:
    """Return whether Redis answers and knows this process's hub as a subscriber."""
    redis: Any = api.store.redis
    try:
        ((_, subscribers),) = await redis.pubsub_numsub(api.store.keys.events(api.hub.id))
    except (RedisError, OSError):
        return False
    return int(subscribers) > 0


async def describe_workers(api: Services) -> list[dict[str, Any]]:
    """Return the description of every live worker, queue by queue.

    Raises:
        StoreUnavailable: Redis is away.
    """
    redis: Any = api.store.redis
    found: list[dict[str, Any]] = []
    try:
        for queue in await api.store.queues():
            ids = await redis.zrange(api.store.keys.part(queue, "workers"), 0, -1)
            names = [api.store.keys.worker(worker.decode()) for worker in ids]
            raw = await redis.mget(names) if names else []
            found += [orjson.loads(value) for value in raw if value]
    except (RedisError, OSError) as error:
        if (translated := unavailable(error)) is not None:
            raise translated from error
        raise
    return found
