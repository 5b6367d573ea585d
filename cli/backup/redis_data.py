"""Copies every key of one prefix out of Redis and into another one, in a form of its own.

The form does not depend on the server: Redis and Valkey of any version since 7 read each other's
backups. Invariant: while keys are read, no key changes (`paused_writes`).
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from redis.exceptions import ResponseError

from cli.backup.backup_set import LineWriter, in_groups
from cli.terminal.failures import Failure
from core.redis.client import guarded

READ_KEYS = 500
#: Parts of keys that only live processes mean: workers, locks, and copies of SQL.
VOLATILE = ("worker:", "lock:", "callers", "signin:", "sweeper", "events:", "unacked")


@asynccontextmanager
async def paused_writes(redis: Any, seconds: float) -> AsyncIterator[None]:
    """Let no client write for the length of the block, and at most for `seconds`.

    If this process dies, the pause ends by itself.

    Raises:
        Failure: the server does not allow it.
    """
    async with guarded():
        try:
            await redis.client_pause(int(seconds * 1000), all=False)
        except ResponseError as error:
            raise Failure(
                "Redis does not let writes be paused",
                str(error),
                "the user of PENSTOCK_REDIS__URL needs CLIENT PAUSE and CLIENT UNPAUSE",
            ) from None
    try:
        yield
    finally:
        async with guarded():
            await redis.client_unpause()


async def dump_keys(redis: Any, prefix: str, part: LineWriter) -> None:
    """Write every key of a prefix, without those of live processes."""
    seen: set[bytes] = set()
    cursor, started = 0, False
    while cursor or not started:
        started = True
        async with guarded():
            cursor, keys = await redis.scan(cursor, match=f"{prefix}:*", count=READ_KEYS)
        fresh = [key for key in keys if key not in seen and not _volatile(key, prefix)]
        seen.update(fresh)
        for group in in_groups(fresh, READ_KEYS):
            await _dump_group(redis, prefix, group, part)


def _volatile(key: bytes, prefix: str) -> bool:
    name = key.decode("latin-1").removeprefix(f"{prefix}:")
    if name.startswith("q:"):
        return name.endswith((":workers", ":slots", ":loading"))
    return name.startswith(VOLATILE)


async def _dump_group(redis: Any, prefix: str, keys: Sequence[bytes], part: LineWriter) -> None:
    async with guarded():
        pipe = redis.pipeline(transaction=False)
        for key in keys:
            pipe.type(key)
            pipe.execute_command("PEXPIRETIME", key)
        heads = await pipe.execute()
        pipe = redis.pipeline(transaction=False)
        kinds = [kind.decode() for kind in heads[::2]]
        for key, kind in zip(keys, kinds, strict=True):
            _read(pipe, key, kind)
        values = await pipe.execute()
    rows = zip(keys, kinds, heads[1::2], values, strict=True)
    for key, kind, expires, value in rows:
        name = key.decode("latin-1").removeprefix(prefix)
        part.write([name, kind, max(0, expires), _encode(kind, value)])


def _read(pipe: Any, key: bytes, kind: str) -> None:
    commands: dict[str, Callable[[], Any]] = {
        "string": lambda: pipe.get(key),
        "hash": lambda: pipe.hgetall(key),
        "list": lambda: pipe.lrange(key, 0, -1),
        "set": lambda: pipe.smembers(key),
        "zset": lambda: pipe.zrange(key, 0, -1, withscores=True),
        "stream": lambda: pipe.xrange(key),
    }
    if kind not in commands:
        raise Failure(f"Redis has a key of kind {kind}, which Penstock does not make: {key!r}")
    commands[kind]()


def _text(value: bytes) -> str:
    """Return bytes as text that JSON can hold; every byte is one character."""
    return value.decode("latin-1")


def _encode(kind: str, value: Any) -> Any:
    match kind:
        case "string":
            return _text(value)
        case "hash":
            return [[_text(name), _text(field)] for name, field in value.items()]
        case "list" | "set":
            return [_text(item) for item in value]
        case "zset":
            return [[_text(member), repr(score)] for member, score in value]
    return [
        [_text(entry_id), [[_text(name), _text(field)] for name, field in fields.items()]]
        for entry_id, fields in value
    ]


async def load_keys(redis: Any, prefix: str, rows: Iterator[Any]) -> int:
    """Write keys into Redis; returns how many."""
    count = 0
    for group in in_groups(rows, READ_KEYS):
        async with guarded():
            pipe = redis.pipeline(transaction=False)
            for name, kind, expires, value in group:
                key = (prefix + name).encode("latin-1")
                for command in _commands(key, kind, value):
                    pipe.execute_command(*command)
                if expires:
                    pipe.execute_command("PEXPIREAT", key, expires)
            await pipe.execute()
        count += len(group)
    return count


def _commands(key: bytes, kind: str, value: Any) -> Iterator[tuple[Any, ...]]:
    if kind == "string":
        yield "SET", key, value.encode("latin-1")
        return
    if kind == "stream":
        for entry_id, fields in value:
            yield "XADD", key, entry_id, *_flat(fields)
        return
    command = {"hash": "HSET", "list": "RPUSH", "set": "SADD", "zset": "ZADD"}[kind]
    for group in in_groups(value, READ_KEYS):
        if kind in ("list", "set"):
            yield command, key, *(item.encode("latin-1") for item in group)
        elif kind == "hash":
            yield command, key, *_flat(group)
        else:
            pairs = ((score, member.encode("latin-1")) for member, score in group)
            yield command, key, *(word for pair in pairs for word in pair)


def _flat(pairs: Sequence[Sequence[str]]) -> list[bytes]:
    return [word.encode("latin-1") for pair in pairs for word in pair]


async def has_keys(redis: Any, prefix: str) -> bool:
    """Return whether there is a key of the prefix."""
    cursor, started = 0, False
    while cursor or not started:
        started = True
        async with guarded():
            cursor, keys = await redis.scan(cursor, match=f"{prefix}:*", count=READ_KEYS)
        if keys:
            return True
    return False


async def delete_keys(redis: Any, prefix: str) -> None:
    """Delete every key of the prefix."""
    cursor, started = 0, False
    while cursor or not started:
        started = True
        async with guarded():
            cursor, keys = await redis.scan(cursor, match=f"{prefix}:*", count=READ_KEYS)
            if keys:
                await redis.unlink(*keys)
