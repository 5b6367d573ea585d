"""The asyncio Redis client and the two ways it is used: plain reads, and batched script calls.

Invariant: nothing waits without a bound, and a lost connection becomes `StoreUnavailable`.
Client-side retries are off: a retried script could apply twice where its caller cannot tell,
so each caller decides (see `store`); only a kept connection that turns out to be broken is replaced
once, and not under a script of `ONCE`.
"""

import asyncio
import hashlib
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from hiredis import pack_command
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
from core.redis.scripts import sources
from core.settings.redis import RedisSettings

RETRY_AFTER_SECONDS = 2.0

#: Pipelines under way at once: one gathers while the other travels, and a stalled connection
#: does not hold up everything.
MAX_UNDER_WAY = 4

#: Scripts whose second run would not answer as the first did: jobs would be claimed for nobody.
ONCE = frozenset({"claim", "delete"})

#: How long a subscription may be silent before it is asked for a sign.
SILENCE_SECONDS = 3.0

#: Errors that mean "not now" rather than "wrong": the connection, a restart, no memory or disk.
UNAVAILABLE = (
    RedisConnectionError,
    RedisTimeoutError,
    BusyLoadingError,
    NoScriptError,  # forgotten twice in a row: it has just restarted again
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
    pool.connection_class = _mended(pool.connection_class)
    return Redis.from_pool(pool)


def _mended(base: type[AbstractConnection]) -> type[AbstractConnection]:
    """Make writes fail as their callers expect.

    A write to a connection that was reset is dropped by asyncio's transports; uvloop's raise
    RuntimeError, which redis-py lets pass. And redis-py writes under `asyncio.wait_for`, which on
    Python 3.11 keeps a cancellation to itself when the write has just ended: whoever was told to
    stop would go on for ever.
    """

    class RedisConnection(base):  # type: ignore[misc, valid-type]
        async def send_packed_command(self, *args: Any, **options: Any) -> None:
            task = asyncio.current_task()
            told = task.cancelling() if task else 0
            try:
                await super().send_packed_command(*args, **options)
            except RuntimeError as error:
                raise RedisConnectionError(str(error)) from error
            finally:
                if task and task.cancelling() > told:
                    # Its answer would be taken for the next command's.
                    await self.disconnect(nowait=True)
                    raise asyncio.CancelledError

    return RedisConnection


async def messages(pubsub: PubSub) -> AsyncGenerator[dict[str, Any], None]:
    """Yield a subscription's messages, its own confirmation and pongs included.

    A connection on which nothing arrives any more gives no sign of it: it has to answer pings.

    Raises:
        redis.ConnectionError: it did not, for three times SILENCE_SECONDS.
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
    """Translate a Redis error that means "come back later", else None."""
    full_disk = isinstance(error, ResponseError) and str(error).startswith("MISCONF")
    if isinstance(error, UNAVAILABLE) or full_disk:
        return StoreUnavailable(
            "the job store does not take requests at the moment",
            retry_after_seconds=RETRY_AFTER_SECONDS,
        )
    return None


def _as_raised(error: BaseException) -> BaseException:
    """Return what `guarded` would raise in an error's place."""
    translated = unavailable(error)
    if translated is None:
        return error
    translated.__cause__ = error
    return translated


@asynccontextmanager
async def guarded() -> AsyncGenerator[None, None]:
    """Turn errors of plain reads into StoreUnavailable, as the scripts' callers see them."""
    try:
        yield
    except (RedisError, OSError) as error:
        translated = unavailable(error)
        if translated is None:
            raise
        raise translated from error


class Call(NamedTuple):
    """One script call on its way, and where its answer goes."""

    name: str
    packed: bytes
    answer: asyncio.Future[Any]


class Scripts:
    """Runs the Lua scripts by SHA, several concurrent calls per round trip.

    Calls made in the same turn of the event loop leave as one pipeline; while a pipeline is
    under way, the next one gathers. Each call has its own result or error.
    """

    def __init__(self, redis: Redis, prefix: str, ticket: str) -> None:
        self._redis = redis
        self._timeout: float = redis.connection_pool.connection_kwargs["socket_timeout"]
        self._kept: list[Any] = []
        self._prefix = prefix
        self._source = sources(ticket)
        # EVALSHA names a script by the SHA-1 of its source.
        self._sha = {
            name: hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
            for name, source in self._source.items()
        }
        self._waiting: list[Call] = []
        self._flushes: set[asyncio.Task[None]] = set()
        self._scheduled = False

    async def call(self, name: str, *args: Any) -> Any:
        """Run one script; ARGV is `args`.

        Raises:
            StoreUnavailable: Redis is away, loading, read-only, or out of memory or disk.
        """
        packed = pack_command(("EVALSHA", self._sha[name], 1, self._prefix, *args))
        call = Call(name, packed, asyncio.get_running_loop().create_future())
        self._waiting.append(call)
        self._schedule()
        return await call.answer

    def _schedule(self) -> None:
        if self._waiting and not self._scheduled and len(self._flushes) < MAX_UNDER_WAY:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._start_flush)

    def _start_flush(self) -> None:
        self._scheduled = False
        batch, self._waiting = self._waiting, []
        task = asyncio.create_task(self._flush(batch))
        self._flushes.add(task)
        task.add_done_callback(self._flushed)

    def _flushed(self, task: asyncio.Task[None]) -> None:
        self._flushes.discard(task)
        self._schedule()

    async def _flush(self, batch: list[Call]) -> None:
        try:
            results = await self._execute(batch)
            unknown = [i for i, result in enumerate(results) if isinstance(result, NoScriptError)]
            if unknown:
                # A restarted Redis forgets its scripts.
                await self._load({batch[i].name for i in unknown})
                again = await self._execute([batch[i] for i in unknown])
                for i, result in zip(unknown, again, strict=True):
                    results[i] = result
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - nobody waits for ever
            results = [error] * len(batch)
            if isinstance(error, RedisTimeoutError):
                # What lies idle has most likely gone the same way; a new one will tell.
                await self._redis.connection_pool.disconnect(inuse_connections=False)
        for call, result in zip(batch, results, strict=True):
            future = call.answer
            if future.done():
                continue
            if isinstance(result, asyncio.CancelledError):
                future.cancel()
            elif isinstance(result, BaseException):
                future.set_exception(_as_raised(result))
            else:
                future.set_result(result)

    async def _execute(self, batch: list[Call]) -> list[Any]:
        """Send a batch over a connection of our own and read its answers.

        redis-py's pipeline asks its pool for a connection each time, polls the socket, packs in
        Python and bounds every answer by a timer: more than half of what a submit cost. A kept
        connection that broke since is noticed here and replaced once.
        """
        packed = b"".join([call.packed for call in batch])
        reused = bool(self._kept)
        results: list[Any] = []
        connection = self._kept.pop() if reused else self._connection()
        try:
            async with asyncio.timeout(self._timeout):
                await connection.send_packed_command(packed, check_health=False)
                for _ in batch:
                    try:
                        results.append(await connection.read_response(timeout=math.inf))
                    except ResponseError as error:
                        results.append(error)
        except BaseException as error:
            # Answers may still be on their way, and a restart breaks its neighbours too.
            await self._discard(connection, *self._kept)
            broken = isinstance(error, RedisConnectionError | ConnectionError)
            again = reused and not results and ONCE.isdisjoint(call.name for call in batch)
            if again and broken and not isinstance(error, BusyLoadingError):
                return await self._execute(batch)
            if isinstance(error, TimeoutError):
                raise RedisTimeoutError("the scripts were not answered in time") from error
            raise
        self._kept.append(connection)
        return results

    async def _discard(self, *connections: Any) -> None:
        self._kept = [kept for kept in self._kept if kept not in connections]
        for connection in connections:
            await connection.disconnect(nowait=True)

    def _connection(self) -> Any:
        pool: Any = self._redis.connection_pool
        connection = pool.make_connection()  # one that the pool does not lend to others
        connection.socket_timeout = None  # a whole batch has one
        return connection

    async def _load(self, names: set[str]) -> None:
        for name in names:
            await self._redis.script_load(self._source[name])

    async def close(self) -> None:
        """Wait for calls under way and let the connections go."""
        while self._flushes:
            await asyncio.gather(*self._flushes, return_exceptions=True)
        await self._discard(*self._kept)
