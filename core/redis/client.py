"""The asyncio Redis client and the errors of plain reads.

Invariant: nothing waits without a bound, a lost connection becomes `StoreUnavailable`, and a
connection to a server that has become a replica is made anew.
Client-side retries are off, because a retried script could apply twice without its caller
noticing. Each caller decides for itself.
"""

import asyncio
import math
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    RedisError,
)

from core.errors import StoreUnavailable
from core.redis.keys import Keys
from core.redis.replies import classify, unavailable
from core.settings.redis import RedisSettings

#: How long a subscription may be silent before a ping is sent.
SILENCE_SECONDS = 3.0

#: All connections are made anew at most this often.
RENEW_SECONDS = 0.5


class Epoch:
    """Counts how often the server behind one pool's address was found to be the wrong one.

    After a planned failover the old primary lives on as a replica and keeps its connections, while
    new connections reach the new primary. One connection that is told so speaks for all of them.
    """

    def __init__(self) -> None:
        self.number = 0
        self._began = -math.inf

    def end(self, number: int) -> None:
        """Have every connection that was made in this epoch or before made anew."""
        now = time.monotonic()
        if number == self.number and now - self._began >= RENEW_SECONDS:
            self.number += 1
            self._began = now


def connect(settings: RedisSettings) -> Redis:
    """Return a client; connections open on first use."""
    pool = BlockingConnectionPool.from_url(
        settings.url.get_secret_value(),
        max_connections=settings.max_connections,
        timeout=settings.timeout_seconds,
        socket_timeout=settings.timeout_seconds,
        socket_connect_timeout=settings.timeout_seconds,
        socket_keepalive=True,
        health_check_interval=10,
        protocol=2,
        retry=Retry(NoBackoff(), 0),
    )
    pool.connection_class = _repaired(_renewing(pool.connection_class))
    return Redis.from_pool(pool)


def _renewing(base: type[AbstractConnection]) -> type[AbstractConnection]:
    """Return a connection class that connects anew before a command if its epoch has ended."""
    epoch = Epoch()

    class RenewingConnection(base):  # type: ignore[misc, valid-type]
        _epoch = 0
        _connecting = False

        @property
        def is_stale(self) -> bool:
            return self._epoch != epoch.number

        async def connect_check_health(self, *args: Any, **options: Any) -> None:
            if self.is_connected:
                return
            self._epoch = epoch.number
            self._connecting = True  # its handshake is made of commands, too
            try:
                await super().connect_check_health(*args, **options)
            finally:
                self._connecting = False

        async def read_response(self, *args: Any, **options: Any) -> Any:
            try:
                return await super().read_response(*args, **options)
            except RedisError as error:
                if classify(error).reconnect:
                    epoch.end(self._epoch)
                raise

        async def send_packed_command(self, *args: Any, **options: Any) -> None:
            if self.is_stale and not self._connecting and self.is_connected:
                await self.disconnect(nowait=True)
            await super().send_packed_command(*args, **options)

    return RenewingConnection


def _repaired(base: type[AbstractConnection]) -> type[AbstractConnection]:
    """Return a connection class whose writes fail as their callers expect.

    uvloop raises RuntimeError for a write to a connection that was reset, which redis-py lets
    pass. And redis-py writes under `asyncio.wait_for`, which on Python 3.11 swallows a
    cancellation when the write has just ended, so that a cancelled task would run for ever.
    """

    class RedisConnection(base):  # type: ignore[misc, valid-type]
        async def send_packed_command(self, *args: Any, **options: Any) -> None:
            task = asyncio.current_task()
            before = task.cancelling() if task else 0
            try:
                await super().send_packed_command(*args, **options)
            except RuntimeError as error:
                raise RedisConnectionError(str(error)) from error
            finally:
                if task and task.cancelling() > before:
                    # Otherwise its reply would be read as the reply of the next command.
                    await self.disconnect(nowait=True)
                    raise asyncio.CancelledError

    return RedisConnection


async def accepts_writes(redis: Redis, keys: Keys) -> None:
    """Check that Redis accepts writes now; it changes nothing, and is allowed at `maxmemory`.

    Raises:
        StoreUnavailable: Redis is away, a replica, or refuses writes.
    """
    async with guarded():
        await redis.unlink(keys.write_check)


async def messages(
    pubsub: PubSub, check: Callable[[], Awaitable[None]] | None = None
) -> AsyncGenerator[dict[str, Any], None]:
    """Yield a subscription's messages, its own confirmation and pongs included.

    A dead connection looks like a silent one, so pings are sent over a silent one.

    Args:
        pubsub: The subscription.
        check: Called while it is silent; sends a write through the same pool, which finds out
            whether the server has become a replica.

    Raises:
        redis.ConnectionError: No reply to two pings, within three times SILENCE_SECONDS, or the
            server was replaced.
    """
    unanswered = 0
    while True:
        message = await pubsub.get_message(timeout=SILENCE_SECONDS)
        if getattr(pubsub.connection, "is_stale", False):
            raise RedisConnectionError("another server answers at this address now")
        if message is not None:
            unanswered = 0
            yield message
        elif unanswered == 2:
            raise RedisConnectionError("no answer to two pings")
        else:
            unanswered += 1
            await pubsub.ping()
            if check is not None:
                with suppress(StoreUnavailable):  # it marked this connection if it must be replaced
                    await check()


@asynccontextmanager
async def guarded() -> AsyncGenerator[None, None]:
    """Turn errors of plain reads into StoreUnavailable, as script calls do."""
    try:
        yield
    except (RedisError, OSError) as error:
        later = unavailable(error)
        if later is None:
            raise
        raise later from error
