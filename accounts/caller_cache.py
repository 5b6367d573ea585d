"""Finds the record of a caller: in this process's memory, in Redis, and last in SQL.

SQL is the source of truth; a Redis hash caches every caller, so that jobs are accepted while SQL
is away. Invariants: a caller that the cache refuses is refused here within KNOWN_SECONDS; while
the cache is incomplete, a miss falls back to SQL.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

import structlog
from pydantic import ValidationError

from accounts.cache_writer import COMPLETE
from accounts.caller import Caller
from core.errors import StoreUnavailable
from core.redis.client import guarded
from core.redis.keys import Keys

log = structlog.get_logger()

#: An older record is read again in the background, while it is still used ...
FRESH_SECONDS = 0.3
#: ... and from this age on, callers wait for the new one.
KNOWN_SECONDS = 0.8
#: How many records one process remembers.
MOST_KNOWN = 20_000


class CachedCaller(NamedTuple):
    """A record, and when it was requested (seconds of the monotonic clock)."""

    record: Caller
    requested_at: float


ReadRecords = Callable[[Sequence[str]], Awaitable[Mapping[str, bytes]]]


class CallerCache:
    """Caller records by field of the hash: a key's digest, or a user's id or email.

    Records that are missing in memory within one turn of the event loop are read in one round
    trip.
    """

    def __init__(self, redis: Any, keys: Keys, truth: ReadRecords) -> None:
        """Open nothing yet.

        Args:
            redis: The client.
            keys: Names of the hash.
            truth: Reads the encoded records of fields from SQL; a field without one is left out.
        """
        self._redis = redis
        self._key = keys.callers
        self._truth = truth
        self._known: dict[str, CachedCaller] = {}
        self._pending: dict[str, asyncio.Future[Caller | None]] = {}
        self._next: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def find(self, field: str, *, though_suspended: bool = False) -> Caller | None:
        """Return the record of a caller, or None for an unknown one.

        Args:
            field: A key's digest (`digest_of`), or a user's id or email.
            though_suspended: Return the record even if the account is suspended.

        Raises:
            StoreUnavailable, DatabaseUnavailable: Neither Redis nor SQL can be read.
            Unauthenticated: The key has expired.
            AccountSuspended: The account is suspended.
        """
        known = self._known.get(field)
        if known is None:
            record = await self._request(field)
        else:
            record = known.record
            age = time.monotonic() - known.requested_at
            if age > KNOWN_SECONDS:
                record = await self._request(field)
            elif age > FRESH_SECONDS:
                self._begin(field)
        if record is not None and (record.expires or record.suspended):
            record.check(though_suspended=though_suspended)
        return record

    async def reload(self, field: str, *, though_suspended: bool = False) -> Caller | None:
        """Read a record again, past this process's memory, and return it.

        Raises:
            StoreUnavailable, DatabaseUnavailable, AccountSuspended: As `find`.
        """
        self._known.pop(field, None)
        return await self.find(field, though_suspended=though_suspended)

    async def _request(self, field: str) -> Caller | None:
        return await asyncio.shield(self._begin(field))

    def _begin(self, field: str) -> asyncio.Future[Caller | None]:
        """Request a record, together with all others requested in this turn of the event loop."""
        under_way = self._pending.get(field)
        if under_way is None:
            loop = asyncio.get_running_loop()
            under_way = self._pending[field] = loop.create_future()
            under_way.add_done_callback(_consume_error)
            self._next.append(field)
            if len(self._next) == 1:
                loop.call_soon(self._start)
        return under_way

    def _start(self) -> None:
        task = asyncio.create_task(self._read(self._next))
        self._next = []
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read(self, fields: list[str]) -> None:
        requested_at = time.monotonic()
        found: Mapping[str, bytes] = {}
        failure: BaseException | None = None
        try:
            found = await self._records(fields)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - every caller must be answered
            failure = error
        for field in fields:
            future = self._pending.pop(field)
            if failure is None:
                self._answer(future, field, found.get(field), requested_at)
            else:
                future.set_exception(_as_error(failure))

    def _answer(
        self,
        future: asyncio.Future[Caller | None],
        field: str,
        raw: bytes | None,
        requested_at: float,
    ) -> None:
        """Answer the callers that wait for one record; an unreadable one fails only them."""
        try:
            record = None if raw is None else Caller.model_validate_json(raw)
        except ValidationError as error:
            # For instance a newer version wrote it. The error itself would log names.
            log.error("caller_not_readable", problems=error.error_count())  # noqa: TRY400
            self._known.pop(field, None)
            future.set_exception(
                StoreUnavailable(
                    "this server cannot read the record of this caller", retry_after_seconds=5
                )
            )
        else:
            self._remember(field, record, requested_at)
            future.set_result(record)

    async def _records(self, fields: list[str]) -> Mapping[str, bytes]:
        """Return the encoded records of fields; a field without a caller is left out."""
        try:
            async with guarded():
                complete, *values = await self._redis.hmget(self._key, COMPLETE, *fields)
        except StoreUnavailable:
            return await self._truth(fields)
        found = {field: raw for field, raw in zip(fields, values, strict=True) if raw is not None}
        missing = [field for field in fields if field not in found]
        if missing and complete is None:
            return {**found, **await self._truth(missing)}
        return found

    def _remember(self, field: str, record: Caller | None, requested_at: float) -> None:
        self._known.pop(field, None)
        if record is not None:
            self._known[field] = CachedCaller(record, requested_at)
            if len(self._known) > MOST_KNOWN:
                del self._known[next(iter(self._known))]

    async def close(self) -> None:
        """Cancel the reads under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _consume_error(future: asyncio.Future[Caller | None]) -> None:
    """Mark the error of a background read as seen; the next caller reads again."""
    if not future.cancelled():
        future.exception()


def _as_error(failure: BaseException) -> BaseException:
    if isinstance(failure, asyncio.CancelledError):
        return StoreUnavailable("this server is closing", retry_after_seconds=1)
    return failure
