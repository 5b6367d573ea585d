"""Callers as Redis remembers them for every API process, and as this process remembers them.

SQL has the truth (package `accounts`); one Redis hash has a copy, so that jobs are accepted while
SQL is away. Invariants: who is refused in the copy is refused here within KNOWN_SECONDS; who is
not found in a copy that is not whole is looked up in SQL, never refused; the copy is never
replaced by something older (`project.lua`).
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

import structlog
from pydantic import ValidationError

from accounts.caller import Caller
from core.errors import StoreUnavailable
from core.redis.client import Scripts, guarded
from core.redis.keys import Keys

log = structlog.get_logger()

#: A record read longer ago is read again, while the old one still answers ...
FRESH_SECONDS = 0.3
#: ... but never longer than this.
KNOWN_SECONDS = 0.8
#: So many records are remembered.
MOST_KNOWN = 20_000

#: The field of the hash that says that every key stands in it.
WHOLE = "whole"
#: The field that counts changes of the hash.
GENERATION = "generation"
#: The field that says who began to compare all of it last.
BEGUN = "begun"
OWN = frozenset({WHOLE, GENERATION, BEGUN})


class CachedCaller(NamedTuple):
    """A record and when it was asked for."""

    record: Caller
    asked_at: float


Ask = Callable[[Sequence[str]], Awaitable[Mapping[str, bytes]]]


class CallerCache:
    """Records by field of the hash: a key's digest, or a user's id.

    Who calls again is found in this process's memory; what is missing there at one moment is asked
    for in one round trip. `truth` reads the same records from SQL.
    """

    def __init__(self, redis: Any, keys: Keys, truth: Ask) -> None:
        self._redis = redis
        self._key = keys.callers
        self._truth = truth
        self._known: dict[str, CachedCaller] = {}
        self._asked: dict[str, asyncio.Future[Caller | None]] = {}
        self._next: list[str] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def find(self, field: str) -> Caller | None:
        """Return a record that is good at this moment, None where there is none.

        Raises:
            StoreUnavailable, DatabaseUnavailable: neither copy nor truth can be read.
            AccountSuspended, Unauthenticated: it is there and may do nothing.
        """
        known = self._known.get(field)
        if known is None:
            record = await self._ask(field)
        else:
            record = known.record
            age = time.monotonic() - known.asked_at
            if age > KNOWN_SECONDS:
                record = await self._ask(field)
            elif age > FRESH_SECONDS:
                self._begin(field)
        if record is not None and (record.expires or record.suspended):
            record.check()
        return record

    async def find_anew(self, field: str) -> Caller | None:
        """Return a record as it is now: somebody knows that it has changed.

        Raises:
            StoreUnavailable, DatabaseUnavailable, AccountSuspended: as `find`.
        """
        self._known.pop(field, None)
        return await self.find(field)

    async def _ask(self, field: str) -> Caller | None:
        return await asyncio.shield(self._begin(field))

    def _begin(self, field: str) -> asyncio.Future[Caller | None]:
        """Have a record read, together with all others wanted in this turn of the loop."""
        under_way = self._asked.get(field)
        if under_way is None:
            loop = asyncio.get_running_loop()
            under_way = self._asked[field] = loop.create_future()
            under_way.add_done_callback(_seen)
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
        asked_at = time.monotonic()
        found: Mapping[str, bytes] = {}
        failure: BaseException | None = None
        try:
            found = await self._records(fields)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - nobody waits for ever
            failure = error
        for field in fields:
            future = self._asked.pop(field)
            if failure is None:
                self._answer(future, field, found.get(field), asked_at)
            else:
                future.set_exception(_as_error(failure))

    def _answer(
        self, future: asyncio.Future[Caller | None], field: str, raw: bytes | None, asked_at: float
    ) -> None:
        """Answer who waits for one record; one that cannot be read is no other's trouble."""
        try:
            record = None if raw is None else Caller.model_validate_json(raw)
        except ValidationError as error:
            # A newer version wrote it, for instance; the error itself would tell names.
            log.error("caller_not_readable", problems=error.error_count())  # noqa: TRY400
            self._known.pop(field, None)
            future.set_exception(
                StoreUnavailable("this server cannot read who you are", retry_after_seconds=5)
            )
        else:
            self._remember(field, record, asked_at)
            future.set_result(record)

    async def _records(self, fields: list[str]) -> Mapping[str, bytes]:
        """Return what is known of fields; those left out are nobody."""
        try:
            async with guarded():
                whole, *values = await self._redis.hmget(self._key, WHOLE, *fields)
        except StoreUnavailable:
            return await self._truth(fields)
        found = {field: raw for field, raw in zip(fields, values, strict=True) if raw is not None}
        missing = [field for field in fields if field not in found]
        if missing and whole is None:
            return {**found, **await self._truth(missing)}
        return found

    def _remember(self, field: str, record: Caller | None, asked_at: float) -> None:
        self._known.pop(field, None)
        if record is not None:
            self._known[field] = CachedCaller(record, asked_at)
            if len(self._known) > MOST_KNOWN:
                del self._known[next(iter(self._known))]

    async def close(self) -> None:
        """End what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def _seen(future: asyncio.Future[Caller | None]) -> None:
    """Take note of an error that nobody waits for: the next caller asks anew."""
    if not future.cancelled():
        future.exception()


def _as_error(failure: BaseException) -> BaseException:
    if isinstance(failure, asyncio.CancelledError):
        return StoreUnavailable("this server is closing", retry_after_seconds=1)
    return failure


class CallerCacheWriter:
    """The writing side: changes the copy, and only from what it has not overtaken."""

    def __init__(self, redis: Any, keys: Keys, scripts: Scripts) -> None:
        self._redis = redis
        self._keys = keys
        self._scripts = scripts

    async def generation(self) -> tuple[str, bool]:
        """Return what a later `replace` must name, and whether the copy is whole.

        Raises:
            StoreUnavailable: Redis is away.
        """
        async with guarded():
            found, whole = await self._redis.hmget(self._keys.callers, GENERATION, WHOLE)
        return (found or b"").decode(), whole is not None

    async def read(self, fields: Sequence[str]) -> list[bytes | None]:
        """Return the copies of records."""
        if not fields:
            return []
        async with guarded():
            found: list[bytes | None] = await self._redis.hmget(self._keys.callers, *fields)
        return found

    async def scan(self, cursor: int, count: int) -> tuple[int, list[str]]:
        """Return some of the fields that callers have, and where to go on; 0 is the end."""
        async with guarded():
            after, found = await self._redis.hscan(self._keys.callers, cursor, count=count)
        return after, [field for field in map(bytes.decode, found) if field not in OWN]

    async def begin(self, token: str) -> None:
        """Say that the whole copy is about to be compared; a copy that is lost forgets it."""
        async with guarded():
            await self._redis.hset(self._keys.callers, BEGUN, token)

    async def end(self, token: str) -> None:
        """Say that it was, if it is still the copy of the beginning."""
        await self._scripts.call("whole", token)

    async def replace(self, generation: str, records: Mapping[str, bytes | None]) -> bool:
        """Write records, None takes one away; False when the copy has changed since.

        Raises:
            StoreUnavailable: it may or may not have happened.
        """
        words = [word for field, record in records.items() for word in (field, record or b"")]
        answer = await self._scripts.call("project", generation, *words)
        return bool(answer == 1)

    async def only_one(self, name: str, seconds: float) -> bool:
        """Say whether this process may do something that one process does per so many seconds."""
        async with guarded():
            got = await self._redis.set(
                f"{self._keys.callers}:{name}", "1", nx=True, px=int(seconds * 1000)
            )
        return bool(got)

    async def server_id(self) -> str:
        """Return what a Redis server that was started anew has another one of."""
        async with guarded():
            info = await self._redis.info("server")
        return str(info["run_id"])


class AttemptLimit(NamedTuple):
    """So many of something, over `seconds` at most `most`."""

    name: str
    most: int
    seconds: float


class SignInAttempts:
    """Counts attempts to sign in, for all API processes together."""

    def __init__(self, redis: Any, keys: Keys, scripts: Scripts) -> None:
        self._redis = redis
        self._keys = keys
        self._scripts = scripts

    async def count(self, *attempts: AttemptLimit) -> float:
        """Count one attempt against each, or none of them; returns how long to wait, in seconds.

        Raises:
            StoreUnavailable: nothing can be said.
        """
        words = [word for one in attempts for word in (one.name, one.most, int(one.seconds * 1000))]
        return int(await self._scripts.call("sign_in", *words)) / 1000

    async def forgive(self, name: str) -> None:
        """Forget the attempts under a name: the last one was right."""
        async with guarded():
            await self._redis.delete(self._keys.sign_in(name))
