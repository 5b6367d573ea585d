"""Runs Lua scripts: concurrent calls share a round trip, each with its own answer or error.

Invariant: a script is never sent twice, with one exception: a kept connection that turns out to be
broken is replaced once, unless the batch holds a script that is not repeatable.
"""

import asyncio
import hashlib
import math
from typing import Any, NamedTuple

from hiredis import pack_command
from redis.asyncio import Redis
from redis.exceptions import (
    BusyLoadingError,
    NoScriptError,
    ResponseError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from core.redis.replies import translated
from core.redis.script_sources import ScriptSources

#: Batches under way at a time: one gathers while another travels, and a stalled connection does
#: not hold up all calls.
MAX_UNDER_WAY = 4


class Call(NamedTuple):
    """One script call under way, and the future of its answer."""

    name: str
    packed: bytes
    answer: asyncio.Future[Any]


class Scripts:
    """Runs the Lua scripts by SHA, several concurrent calls per round trip.

    Calls made in the same turn of the event loop leave as one pipeline; while a pipeline is
    under way, the next one gathers. Each call has its own result or error.
    """

    def __init__(self, redis: Redis, prefix: str, sources: ScriptSources) -> None:
        """Open nothing yet.

        Args:
            redis: The client whose server and connection settings are used.
            prefix: KEYS[1] of every call: the prefix of all key names.
            sources: The scripts that may be called.
        """
        self._redis = redis
        self._timeout: float = redis.connection_pool.connection_kwargs["socket_timeout"]
        self._kept: list[Any] = []
        self._prefix = prefix
        self._source = dict(sources.texts)
        self._once = sources.once
        # EVALSHA names a script by the SHA-1 of its source.
        self._sha = {
            name: hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
            for name, source in self._source.items()
        }
        self._waiting: list[Call] = []
        self._flushes: set[asyncio.Task[None]] = set()
        self._scheduled = False

    async def call(self, name: str, *args: Any) -> Any:
        """Run one script.

        Args:
            name: The script.
            args: ARGV: its named arguments in order, then the others.

        Raises:
            StoreUnavailable: Redis is away, loading, read-only, or out of memory or disk. The
                script may or may not have run.
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
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - every caller must be answered
            results = [error] * len(batch)
            if isinstance(error, RedisTimeoutError):
                # Idle connections have most likely broken, too; new ones will show.
                await self._redis.connection_pool.disconnect(inuse_connections=False)
        for call, result in zip(batch, results, strict=True):
            future = call.answer
            if future.done():
                continue
            if isinstance(result, asyncio.CancelledError):
                future.cancel()
            elif isinstance(result, BaseException):
                future.set_exception(translated(result))
            else:
                future.set_result(result)

    async def _execute(self, batch: list[Call]) -> list[Any]:
        """Send a batch over a connection of our own and read its answers.

        redis-py's pipeline takes a connection from its pool each time, polls the socket, packs in
        Python and sets a timer per answer: together more than half of the cost of a submit. A
        kept connection that broke meanwhile is noticed here and replaced once.
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
            # Answers may still arrive on it, and a restart breaks the other connections, too.
            await self._discard(connection, *self._kept)
            broken = isinstance(error, RedisConnectionError | ConnectionError)
            again = reused and not results and self._once.isdisjoint(call.name for call in batch)
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
        connection = pool.make_connection()  # not one of the pool, which lends its own to others
        connection.socket_timeout = None  # the batch as a whole has a timeout
        return connection

    async def _load(self, names: set[str]) -> None:
        for name in names:
            await self._redis.script_load(self._source[name])

    async def close(self) -> None:
        """Wait for calls under way and close the connections."""
        while self._flushes:
            await asyncio.gather(*self._flushes, return_exceptions=True)
        await self._discard(*self._kept)
