"""Ways in which a real Redis refuses commands, each with its end and the error code it answers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

Act = Callable[[Any], Awaitable[None]]

PASSWORD = "only-for-this-test"


@asynccontextmanager
async def administrator(server: RedisServer) -> AsyncIterator[Any]:
    """Open one connection of the test's own, which the faults do not touch."""
    redis: Any = Redis.from_url(server.url, single_connection_client=True, protocol=2)
    await redis.ping()
    try:
        yield redis
    finally:
        await redis.aclose()


@dataclass(frozen=True)
class RedisFault:
    """One way; `codes` are those that a client's command may be answered with."""

    name: str
    codes: frozenset[str]
    begin: Act
    end: Act


async def _kill_others(redis: Any) -> None:
    for kind in ("normal", "pubsub"):
        await redis.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")


async def _become_replica(redis: Any) -> None:
    await redis.execute_command("REPLICAOF", "127.0.0.1", "1")


async def _become_replica_without_stale_data(redis: Any) -> None:
    await redis.config_set("replica-serve-stale-data", "no")
    await redis.execute_command("REPLICAOF", "127.0.0.1", "1")


async def _become_primary(redis: Any) -> None:
    await redis.execute_command("REPLICAOF", "NO", "ONE")


async def _want_replicas(redis: Any) -> None:
    await redis.config_set("min-replicas-to-write", "1")


async def _want_no_replicas(redis: Any) -> None:
    await redis.config_set("min-replicas-to-write", "0")


async def _want_password(redis: Any) -> None:
    await redis.config_set("requirepass", PASSWORD)
    await _kill_others(redis)


async def _want_no_password(redis: Any) -> None:
    await redis.config_set("requirepass", "")


async def _forbid(redis: Any) -> None:
    await redis.execute_command("ACL", "SETUSER", "default", "-@write", "-@scripting")


async def _allow(redis: Any) -> None:
    await redis.execute_command("ACL", "SETUSER", "default", "+@all")


async def _run_for_ever(redis: Any) -> None:
    await redis.config_set("lua-time-limit", "50")
    where = redis.connection_pool.connection_kwargs
    _, writer = await asyncio.open_connection(where["host"], where["port"])
    writer.write(b"EVAL 'while true do end' 0\r\n")  # the script outlives it

    async def busy() -> bool:
        try:
            await redis.ping()
        except ResponseError as error:
            return str(error).startswith("BUSY")
        return False

    await eventually(busy)
    writer.close()


async def _stop_script(redis: Any) -> None:
    await redis.execute_command("SCRIPT", "KILL")


async def _take_no_more(redis: Any) -> None:
    await redis.config_set("maxclients", "1")
    await _kill_others(redis)


async def _take_more(redis: Any) -> None:
    await redis.config_set("maxclients", "1000")


def _fault(name: str, codes: str, begin: Act, end: Act) -> RedisFault:
    return RedisFault(name, frozenset(codes.split()), begin, end)


FAULTS = (
    _fault("a replica", "READONLY", _become_replica, _become_primary),
    _fault(
        "a replica without its primary",
        "MASTERDOWN READONLY",
        _become_replica_without_stale_data,
        _become_primary,
    ),
    _fault("too few replicas", "NOREPLICAS", _want_replicas, _want_no_replicas),
    _fault("a password unknown here", "NOAUTH ERR", _want_password, _want_no_password),
    _fault("commands forbidden", "NOPERM", _forbid, _allow),
    _fault("a script without end", "BUSY", _run_for_ever, _stop_script),
    # The server closes the connection, mostly before its answer is read.
    RedisFault("too many clients", frozenset({"ERR", ""}), _take_no_more, _take_more),
)
