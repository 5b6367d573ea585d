"""Describes the workers from their heartbeats, and checks this process's connection to Redis."""

from typing import Any

import orjson
from redis.exceptions import RedisError

from core.errors import StoreUnavailable
from core.redis.replies import unavailable
from core.settings.redis import LeaseSettings
from intake.services import Services

#: A worker that has missed so many heartbeats is not called ready.
SILENT_HEARTBEATS = 2.5
#: For how many leases Redis keeps a worker's last heartbeat (`renew.lua`).
LEASES_KEPT = 3


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

    One without a heartbeat for SILENT_HEARTBEATS periods is `silent`, whatever it said of itself.

    Raises:
        StoreUnavailable: Redis is down.
    """
    redis: Any = services.store.redis
    found: list[dict[str, Any]] = []
    try:
        for queue in await services.store.queues():
            ids = await redis.zrange(services.store.keys.part(queue, "workers"), 0, -1)
            names = [services.store.keys.worker(worker.decode()) for worker in ids]
            async with redis.pipeline(transaction=False) as together:
                for name in names:
                    together.get(name)
                    together.pttl(name)
                raw = await together.execute() if names else []
            found += [
                _described(value, left_ms, services.settings.lease)
                for value, left_ms in zip(raw[::2], raw[1::2], strict=True)
                if value
            ]
    except (RedisError, OSError) as error:
        if (translated := unavailable(error)) is not None:
            raise translated from error
        raise
    return found


def _described(raw: bytes, left_ms: int, lease: LeaseSettings) -> dict[str, Any]:
    """Return what a worker said last; `left_ms` is the time until Redis forgets it."""
    described: dict[str, Any] = orjson.loads(raw)
    silent = LEASES_KEPT * lease.seconds - left_ms / 1000
    if silent > SILENT_HEARTBEATS * lease.heartbeat_seconds:
        described["state"] = "silent"
    return described
