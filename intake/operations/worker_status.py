"""Describes the workers from their heartbeats, and checks this process's connection to Redis."""

from typing import Any

import orjson
from redis.exceptions import RedisError

from core.errors import StoreUnavailable
from core.redis.replies import unavailable
from intake.services import Services


async def is_connected(services: Services) -> bool:
    """Return whether Redis accepts writes and this process's event hub is subscribed."""
    redis: Any = services.store.redis
    try:
        await services.store.check_writable()
        ((_, subscribers),) = await redis.pubsub_numsub(services.store.keys.events(services.hub.id))
    except (StoreUnavailable, RedisError, OSError):
        return False
    return int(subscribers) > 0


async def describe_workers(services: Services) -> list[dict[str, Any]]:
    """Return the description of every live worker, queue by queue.

    Raises:
        StoreUnavailable: Redis is down.
    """
    redis: Any = services.store.redis
    found: list[dict[str, Any]] = []
    try:
        for queue in await services.store.queues():
            ids = await redis.zrange(services.store.keys.part(queue, "workers"), 0, -1)
            names = [services.store.keys.worker(worker.decode()) for worker in ids]
            raw = await redis.mget(names) if names else []
            found += [orjson.loads(value) for value in raw if value]
    except (RedisError, OSError) as error:
        if (translated := unavailable(error)) is not None:
            raise translated from error
        raise
    return found
