"""Checks that Redis and SQL answer, lose nothing, and agree with this machine on the time.

Invariant: nothing is written, no table or file is created, and no password is shown.
"""

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from redis.exceptions import RedisError, ResponseError
from sqlalchemy import make_url, text
from sqlalchemy.engine import URL
from sqlalchemy.exc import SQLAlchemyError

from cli.checks.findings import Finding, fine, problem, warning
from core.db.database import is_sqlite
from core.db.schema_version import is_behind, migration_engine, revisions
from core.redis.client import connect
from core.settings.billing import DatabaseSettings
from core.settings.redis import RedisSettings

OLDEST_REDIS = (7, 0)
OLDEST_SQLITE = (3, 35)
#: The oldest PostgreSQL that still gets fixes; the tests run on 18.
OLDEST_POSTGRESQL = 14
WARN_CLOCK_SECONDS = 1.0
WORST_CLOCK_SECONDS = 30.0
NEARLY_FULL = 0.85
FULL = 0.97
MIB = 1024**2
SETTING = "PENSTOCK_REDIS__URL"
DATABASE = "PENSTOCK_DATABASE__URL"


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """What a Redis reports about itself.

    Attributes:
        info: The answer of `INFO`.
        fsync: `appendfsync`; None if the server forbids to read it.
        ahead: Seconds by which its clock is ahead of this machine's.
    """

    info: Mapping[str, Any]
    fsync: str | None
    ahead: float


def check_redis(settings: RedisSettings) -> list[Finding]:
    """Check the version, settings, memory and clock of a Redis."""
    parts = urlsplit(settings.url.get_secret_value())
    address = f"{parts.hostname or 'localhost'}:{parts.port or 6379}"
    try:
        facts = asyncio.run(_ask_redis(settings))
    except (RedisError, OSError) as error:
        words = str(error).partition("\n")[0] or type(error).__name__
        if parts.password:
            words = words.replace(parts.password, "***")
        advice = f"{SETTING} names it, with user and password; `penstock up` can start one"
        return [problem("redis", f"the one at {address} cannot be used: {words}", advice)]
    return [
        _redis_version(facts.info, address),
        _redis_policy(facts.info),
        _redis_file(facts),
        _redis_memory(facts.info),
        check_clock("redis clock", facts.ahead),
    ]


async def _ask_redis(settings: RedisSettings) -> RedisFacts:
    client = connect(settings)
    # No PING first: a Redis that cannot write its file refuses it, and INFO tells more.
    client.connection_pool.connection_kwargs["health_check_interval"] = 0
    try:
        info = cast("Mapping[str, Any]", await client.info())
        try:
            found = await client.config_get("appendfsync")
        except ResponseError:  # most managed servers forbid it
            found = {}
        before = time.time()
        seconds, micros = await client.time()
        middle = (before + time.time()) / 2
    finally:
        await client.aclose()
    return RedisFacts(info, found.get("appendfsync"), seconds + micros / 1e6 - middle)


def _redis_version(info: Mapping[str, Any], address: str) -> Finding:
    name = "redis"
    number = str(info.get("redis_version", "0"))
    words = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {number}"
    text = f"{words} at {address}"
    if tuple(int(part) for part in number.split(".")[:2]) < OLDEST_REDIS:
        return problem(name, f"{text} is too old", "use Redis 7.0 or later, or Valkey")
    if info.get("redis_mode") == "cluster":
        return problem(name, f"{text} is a cluster", "use a single Redis; it may have replicas")
    if info.get("role") == "slave":
        return problem(
            name, f"{text} is a replica, which accepts no writes", f"{SETTING}: the primary"
        )
    return fine(name, text)


def _redis_policy(info: Mapping[str, Any]) -> Finding:
    name, policy = "redis eviction", info.get("maxmemory_policy", "unknown")
    text = f"maxmemory-policy is {policy}"
    if policy != "noeviction":
        advice = (
            "maxmemory-policy noeviction in its configuration; now: CONFIG SET maxmemory-policy"
        )
        return problem(name, f"{text}: a full Redis would drop jobs", f"{advice} noeviction")
    return fine(name, text)


def _redis_file(facts: RedisFacts) -> Finding:
    name, info = "redis durability", facts.info
    if info.get("aof_enabled") and info.get("aof_last_write_status", "ok") != "ok":
        advice = "check whether its disk is full or read-only; it refuses jobs until it can write"
        return problem(name, "it cannot write its append-only file", advice)
    if info.get("rdb_last_bgsave_status", "ok") != "ok":
        advice = "check its disk; it may refuse jobs (stop-writes-on-bgsave-error)"
        return problem(name, "its last snapshot failed", advice)
    if not info.get("aof_enabled"):
        advice = "appendonly yes in its configuration; now: CONFIG SET appendonly yes"
        return warning(name, "appendonly is off: a restart loses accepted jobs", advice)
    text = f"appendonly is on, appendfsync {facts.fsync or 'unknown (CONFIG is forbidden)'}"
    if facts.fsync == "no":
        advice = "appendfsync everysec, or always"
        return warning(name, f"{text}: a power cut loses half a minute", advice)
    return fine(name, text)


def _redis_memory(info: Mapping[str, Any]) -> Finding:
    name, used, most = "redis memory", int(info["used_memory"]), int(info.get("maxmemory", 0))
    if not most:
        return fine(name, f"{used / MIB:.0f} MiB used, no limit set")
    text = f"{used / MIB:.0f} of {most / MIB:.0f} MiB used"
    advice = "raise maxmemory, or find the queue that grows: penstock queues list"
    if used > FULL * most:
        return problem(name, f"{text}: new jobs are refused", advice)
    return warning(name, text, advice) if used > NEARLY_FULL * most else fine(name, text)


def check_clock(name: str, ahead: float) -> Finding:
    """Check how far a server's clock is ahead of this machine's, in seconds."""
    way = "ahead of" if ahead > 0 else "behind"
    if abs(ahead) <= WARN_CLOCK_SECONDS:
        return fine(name, f"within {WARN_CLOCK_SECONDS:g} s of this machine's")
    words = f"{abs(ahead):.1f} s {way} this machine's"
    advice = "synchronize both machines by NTP: timedatectl set-ntp true"
    if abs(ahead) > WORST_CLOCK_SECONDS:
        return problem(name, f"{words}: tokens, deadlines and bills would be wrong", advice)
    return warning(name, words, advice)


def check_database(settings: DatabaseSettings) -> list[Finding]:
    """Check the version, clock and tables of the billing database."""
    url = make_url(settings.url.get_secret_value())
    if is_sqlite(url):
        path = Path(url.database or "")
        if not path.exists():
            return [fine("sql", f"no database yet: `penstock up` creates {path}")]
        if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK | os.X_OK)):
            advice = "change the owner or the permissions of the file and its folder"
            return [problem("sql", f"{path} cannot be written", advice)]
    try:
        return [*_ask_database(settings, url), check_tables(settings)]
    except SQLAlchemyError as error:
        words = str(getattr(error, "orig", None) or error).partition("\n")[0]
        if url.password:
            words = words.replace(str(url.password), "***")
        return [
            problem("sql", f"the billing database cannot be used: {words}", f"{DATABASE} names it")
        ]


def _ask_database(settings: DatabaseSettings, url: URL) -> list[Finding]:
    engine = migration_engine(settings)
    try:
        with engine.connect() as connection:
            if is_sqlite(url):
                number = str(connection.execute(text("SELECT sqlite_version()")).scalar())
                connection.execute(text("SELECT count(*) FROM sqlite_master"))
                return [_sqlite(number, url)]
            number = str(connection.execute(text("SHOW server_version_num")).scalar())
            connection.execute(text("SELECT 1"))
            before = time.time()
            query = text("SELECT extract(epoch FROM clock_timestamp())")
            seconds = float(connection.execute(query).scalar_one())
            ahead = seconds - (before + time.time()) / 2
            return [_postgresql(int(number), url), check_clock("sql clock", ahead)]
    finally:
        engine.dispose()


def _sqlite(number: str, url: URL) -> Finding:
    words = f"SQLite {number}, {url.database}"
    if tuple(int(part) for part in number.split(".")[:2]) < OLDEST_SQLITE:
        return problem("sql", f"{words} is too old", "use a Python with SQLite 3.35 or later")
    return fine("sql", words)


def _postgresql(number: int, url: URL) -> Finding:
    major = number // 10_000
    words = f"PostgreSQL {major}.{number % 10_000} at {url.host or url.query.get('host')}"
    if major < OLDEST_POSTGRESQL:
        advice = f"use PostgreSQL {OLDEST_POSTGRESQL} or later"
        return warning("sql", f"{words} no longer gets fixes", advice)
    return fine("sql", words)


def check_tables(settings: DatabaseSettings) -> Finding:
    """Check that the tables have the version that this program needs."""
    name = "tables"
    current, head = revisions(settings)
    if current == head:
        return fine(name, f"at {head}")
    advice = "penstock db upgrade (`penstock up` does it too)"
    if current is None:
        return problem(name, "there are no tables yet", advice)
    if is_behind(settings):
        return problem(name, f"they are at {current}, this program needs {head}", advice)
    return warning(
        name, f"they are at {current}, newer than this program ({head})", "upgrade Penstock"
    )
