"""Keeps Redis's copy of callers in step with SQL.

Every change is copied right after it is committed. Invariants: what is written is read from SQL
after the copy's generation, so a newer state is never replaced by an older one; what a dead
process left behind, or Redis forgot, is repaired by `keep_in_step` within seconds.
"""

import asyncio
import secrets
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import structlog
from sqlalchemy import ColumnElement, delete, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from accounts.cache_records import ACCOUNTS, KEYS, TOKENS, USERS, read_records, user_fields
from accounts.caller_cache import CallerCacheWriter
from billing.errors import DatabaseUnavailable
from core.db.engine import Database
from core.db.tables.base import now
from core.errors import StoreUnavailable
from core.settings.auth import AuthSettings

log = structlog.get_logger()

#: So many callers are compared at once.
PAGE = 500
#: How often a page is read anew when others write at the same time.
TRIES = 50
#: What was changed within this time may not have been copied; clocks may differ by minutes.
RECENT = timedelta(minutes=10)
#: Everything is compared this often, by one process of all.
ALL_SECONDS = 60.0
#: A process that fills an empty copy is given so long before another one tries, too.
FILL_SECONDS = 5.0
#: How long refresh tokens are kept after they have expired.
KEPT = timedelta(days=1)


class CacheSync:
    """Copies callers from SQL to Redis."""

    def __init__(self, database: Database, copy: CallerCacheWriter, settings: AuthSettings) -> None:
        self._database = database
        self._redis = copy
        self._pause = settings.sync_seconds
        self._recent = timedelta(seconds=settings.access_seconds)
        self._server = ""

    async def truth(self, fields: Sequence[str]) -> dict[str, bytes]:
        """Read records from SQL, where the copy cannot be trusted or read.

        Raises:
            DatabaseUnavailable: come back later.
        """
        async with self._database.read() as connection:
            records = await read_records(connection, fields, self._recent)
        return {field: record for field, record in records.items() if record is not None}

    async def copy(self, fields: Sequence[str]) -> None:
        """Bring the records of some fields up to date, after they were changed in SQL.

        Raises:
            StoreUnavailable, DatabaseUnavailable: it will happen later.
        """
        await self._copy(fields, changed=True)

    async def _copy(self, fields: Sequence[str], *, changed: bool) -> None:
        for start in range(0, len(fields), PAGE):
            await self._copy_page(fields[start : start + PAGE], changed=changed)

    async def try_copy(self, fields: Sequence[str]) -> None:
        """Copy what is new; a failure only delays it, for nobody is let in who should not be."""
        try:
            await self.copy(fields)
        except (StoreUnavailable, DatabaseUnavailable) as error:
            log.warning("caller_not_copied", cause=type(error).__name__)

    async def _copy_page(self, fields: Sequence[str], *, changed: bool) -> None:
        """Compare a page, and write what differs.

        After a change something is written even if nothing differs: the generation, so that who
        read SQL before the change cannot write what they read.
        """
        for _ in range(TRIES):
            generation, _ = await self._redis.generation()
            there = await self._redis.read(fields)
            async with self._database.read() as connection:
                records = await read_records(connection, fields, self._recent)
            wrong = {
                field: records[field]
                for field, old in zip(fields, there, strict=True)
                if records[field] != old
            }
            if not (wrong or changed) or await self._redis.replace(generation, wrong):
                return
        raise StoreUnavailable("too many keys change at once", retry_after_seconds=1)

    async def copy_account(self, account: str) -> None:
        """Bring everybody of an account up to date."""
        keys, users = KEYS.c.account_id == account, USERS.c.account_id == account
        await self._copy_where(keys, users, changed=True)

    async def copy_user(self, user_id: str) -> None:
        """Bring a user and the keys made by that user up to date."""
        keys, users = KEYS.c.user_id == user_id, USERS.c.id == user_id
        await self._copy_where(keys, users, changed=True)

    async def _copy_where(
        self, keys: ColumnElement[bool], users: ColumnElement[bool], *, changed: bool
    ) -> None:
        async with self._database.read() as connection:
            fields = await _fields(connection, keys, users)
        await self._copy(fields, changed=changed)

    async def keep_in_step(self) -> None:
        """Repair the copy again and again until cancelled."""
        while True:
            try:
                await self.repair()
            except (StoreUnavailable, DatabaseUnavailable) as error:
                log.warning("callers_not_compared", cause=type(error).__name__)
            await asyncio.sleep(self._pause)

    async def repair(self) -> None:
        """Do what is due: compare everything, or what changed a moment ago.

        Raises:
            StoreUnavailable, DatabaseUnavailable: it will be done later.
        """
        _, whole = await self._redis.generation()
        server = await self._redis.server_id()
        restarted, self._server = self._server not in ("", server), server
        if not whole or restarted:
            if await self._redis.only_one("filling", FILL_SECONDS):
                await self.copy_all()
        elif await self._redis.only_one("all", ALL_SECONDS):
            await self.copy_all()
            await self._forget_tokens()
        elif await self._redis.only_one("recent", self._pause * 0.9):
            await self._copy_recent(now() - RECENT)

    async def copy_all(self) -> None:
        """Compare every caller in SQL, and every one in Redis."""
        token = secrets.token_hex(8)
        await self._redis.begin(token)
        last = ""
        while digests := await self._digests_after(last):
            await self._copy(digests, changed=False)
            last = digests[-1]
        last = ""
        while users := await self._users_after(last):
            fields = [field for user in users for field in user_fields(*user)]
            await self._copy(fields, changed=False)
            last = users[-1][0]
        cursor, fields = await self._redis.scan(0, PAGE)
        await self._copy(fields, changed=False)
        while cursor:
            cursor, fields = await self._redis.scan(cursor, PAGE)
            await self._copy(fields, changed=False)
        await self._redis.end(token)

    async def _copy_recent(self, since: datetime) -> None:
        accounts = select(ACCOUNTS.c.id).where(ACCOUNTS.c.changed_at > since)
        people = select(USERS.c.id).where(USERS.c.changed_at > since)
        await self._copy_where(
            or_(
                KEYS.c.changed_at > since,
                KEYS.c.account_id.in_(accounts),
                KEYS.c.user_id.in_(people),
            ),
            or_(USERS.c.changed_at > since, USERS.c.account_id.in_(accounts)),
            changed=False,
        )

    async def _digests_after(self, last: str) -> list[str]:
        query = select(KEYS.c.sha256).where(KEYS.c.sha256 > last, KEYS.c.revoked_at.is_(None))
        async with self._database.read() as connection:
            found = await connection.scalars(query.order_by(KEYS.c.sha256).limit(PAGE))
            return list(found)

    async def _users_after(self, last: str) -> list[tuple[str, str]]:
        query = select(USERS.c.id, USERS.c.email).where(USERS.c.id > last).order_by(USERS.c.id)
        async with self._database.read() as connection:
            return [(row.id, row.email) for row in await connection.execute(query.limit(PAGE))]

    async def _forget_tokens(self) -> None:
        async with self._database.write() as connection:
            await connection.execute(delete(TOKENS).where(TOKENS.c.expires_at < now() - KEPT))


async def _fields(
    connection: AsyncConnection, keys: ColumnElement[bool], users: ColumnElement[bool]
) -> list[str]:
    digests: Iterable[str] = await connection.scalars(select(KEYS.c.sha256).where(keys))
    people = await connection.execute(select(USERS.c.id, USERS.c.email).where(users))
    return [*digests, *(field for row in people for field in user_fields(row.id, row.email))]
