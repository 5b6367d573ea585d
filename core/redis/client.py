"""The asyncio Redis client and the errors of plain reads.

Invariant: nothing waits without a bound, and a lost connection becomes `StoreUnavailable`.
Client-side retries are off, because a retried script could apply twice without its caller
noticing. Each caller decides for itself.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.client import PubSub
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from core.errors import StoreUnavailable
from core.settings.redis import RedisSettings

RETRY_AFTER_SECONDS = 2.0

#: How long a subscription may be silent before a ping is sent.
SILENCE_SECONDS = 3.0

#: Errors after which a later try can succeed: the connection, a restart, no memory or disk.
UNAVAILABLE = (
    RedisConnectionError,
    RedisTimeoutError,
    BusyLoadingError,
    NoScriptError,  # unknown twice in a row: Redis has just restarted again
    ReadOnlyError,
    OutOfMemoryError,
    OSError,
)


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
    pool.connection_class = _repaired(pool.connection_class)
    return Redis.from_pool(pool)


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


async def messages(pubsub: PubSub) -> AsyncGenerator[dict[str, Any], None]:
    """Yield a subscription's messages, its own confirmation and pongs included.

    A dead connection looks like a silent one, so pings are sent over a silent one.

    Raises:
        redis.ConnectionError: No reply to two pings, within three times SILENCE_SECONDS.
    """
    unanswered = 0
    while True:
        message = await pubsub.get_message(timeout=SILENCE_SECONDS)
        if message is not None:
            unanswered = 0
            yield message
        elif unanswered == 2:
            raise RedisConnectionError("no answer to two pings")
        else:
            unanswered += 1
            await pubsub.ping()


def unavailable(error: BaseException) -> StoreUnavailable | None:
    """Return StoreUnavailable for an error after which a later try can succeed, else None."""
    full_disk = isinstance(error, ResponseError) and str(error).startswith("MISCONF")
    if isinstance(error, UNAVAILABLE) or full_disk:
        return StoreUnavailable(
            "the job store does not take requests at the moment",
            retry_after_seconds=RETRY_AFTER_SECONDS,
        )
    return None


def translated(error: BaseException) -> BaseException:
    """Return the error that `guarded` would raise instead of this one."""
    later = unavailable(error)
    if later is None:
        return error
    later.__cause__ = error
    return later


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
