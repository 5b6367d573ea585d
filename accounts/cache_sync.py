"""Keeps the caller cache in Redis in sync with SQL.

Every change is copied right after its commit. Invariants: the sync reads the cache's generation
number first, then SQL, so an older state never replaces a newer one. `keep_in_sync` repairs within
seconds what a process did not copy because it died, and what Redis lost.
"""

import asyncio
import secrets
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import structlog
from sqlalchemy import ColumnElement, delete, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from accounts.cache_records import ACCOUNTS, KEYS, TOKENS, USERS, read_records, user_fields
from accounts.cache_writer import CallerCacheWriter
from core.db.database import Database
from core.db.tables.base import now
from core.errors import DatabaseUnavailable, StoreUnavailable
from core.settings.auth import AuthSettings

log = structlog.get_logger()

#: Callers that are compared together.
PAGE = 500
#: How often a page is read again when other processes write concurrently.
TRIES = 50
#: Changes of this age are compared again: they may not have been copied, and clocks differ.
RECENT = timedelta(minutes=10)
#: How often one of all processes compares everything.
ALL_SECONDS = 60.0
#: How long other processes wait for the one that fills an empty cache.
FILL_SECONDS = 5.0
#: How long refresh tokens are kept after they expire.
KEPT = timedelta(days=1)


class CacheSync:
    """Copies callers from SQL to Redis."""

    def __init__(
        self, database: Database, cache: CallerCacheWriter, settings: AuthSettings
    ) -> None:
        self._database = database
        self._cache = cache
        self._pause = settings.sync_seconds
        self._recent = timedelta(seconds=settings.access_seconds)
        self._server = ""

    async def truth(self, fields: Sequence[str]) -> dict[str, bytes]:
        """Read records from SQL, for when the cache is incomplete or away.

        Args:
            fields: Digests of keys, ids or emails of users.

        Returns:
            The encoded record of each caller; other fields are left out.

        Raises:
            DatabaseUnavailable: Try again later.
        """
        async with self._database.read() as connection:
            records = await read_records(connection, fields, self._recent)
        return {field: record for field, record in records.items() if record is not None}

    async def copy(self, fields: Sequence[str]) -> None:
        """Copy the records of some fields, after they were changed in SQL.

        Raises:
            StoreUnavailable, DatabaseUnavailable: `keep_in_sync` will do it later.
        """
        await self._copy(fields, changed=True)

    async def _copy(self, fields: Sequence[str], *, changed: bool) -> None:
        for start in range(0, len(fields), PAGE):
            await self._copy_page(fields[start : start + PAGE], changed=changed)

    async def try_copy(self, fields: Sequence[str]) -> None:
        """Copy new records; a failure only delays the moment from which they may call."""
        try:
            await self.copy(fields)
        except (StoreUnavailable, DatabaseUnavailable) as error:
            log.warning("caller_not_copied", cause=type(error).__name__)

    async def _copy_page(self, fields: Sequence[str], *, changed: bool) -> None:
        """Compare a page and write what differs.

        After a change the generation is written even if nothing differs, so that a process that
        read SQL before the change cannot write what it read.
        """
        for _ in range(TRIES):
            generation, _ = await self._cache.generation()
            there = await self._cache.read(fields)
            async with self._database.read() as connection:
                records = await read_records(connection, fields, self._recent)
            wrong = {
                field: records[field]
                for field, old in zip(fields, there, strict=True)
                if records[field] != old
            }
            if not (wrong or changed) or await self._cache.replace(generation, wrong):
                return
        raise StoreUnavailable("too many keys change at once", retry_after_seconds=1)

    async def copy_account(self, account: str) -> None:
        """Copy the records of all keys and users of an account."""
        keys, users = KEYS.c.account_id == account, USERS.c.account_id == account
        await self._copy_where(keys, users, changed=True)

    async def copy_user(self, user_id: str) -> None:
        """Copy the records of a user and of the keys that the user made."""
        keys, users = KEYS.c.user_id == user_id, USERS.c.id == user_id
        await self._copy_where(keys, users, changed=True)

    async def _copy_where(
        self, keys: ColumnElement[bool], users: ColumnElement[bool], *, changed: bool
    ) -> None:
        async with self._database.read() as connection:
            fields = await _fields(connection, keys, users)
        await self._copy(fields, changed=changed)

    async def keep_in_sync(self) -> None:
        """Repair the cache periodically until cancelled."""
        while True:
            try:
                await self.repair()
            except (StoreUnavailable, DatabaseUnavailable) as error:
                log.warning("callers_not_compared", cause=type(error).__name__)
            await asyncio.sleep(self._pause)

    async def repair(self) -> None:
        """Compare what is due: everything, or recent changes.

        Raises:
            StoreUnavailable, DatabaseUnavailable: It will be done later.
        """
        _, complete = await self._cache.generation()
        server = await self._cache.server_id()
        restarted, self._server = self._server not in ("", server), server
        if not complete or restarted:
            if await self._cache.take_turn("filling", FILL_SECONDS):
                await self.copy_all()
        elif await self._cache.take_turn("all", ALL_SECONDS):
            await self.copy_all()
            await self._forget_tokens()
        elif await self._cache.take_turn("recent", self._pause * 0.9):
            await self._copy_recent(now() - RECENT)

    async def copy_all(self) -> None:
        """Compare every caller in SQL and every one in Redis."""
        token = secrets.token_hex(8)
        await self._cache.begin_comparison(token)
        last = ""
        while digests := await self._digests_after(last):
            await self._copy(digests, changed=False)
            last = digests[-1]
        last = ""
        while users := await self._users_after(last):
            fields = [field for user in users for field in user_fields(*user)]
            await self._copy(fields, changed=False)
            last = users[-1][0]
        cursor, fields = await self._cache.scan(0, PAGE)
        await self._copy(fields, changed=False)
        while cursor:
            cursor, fields = await self._cache.scan(cursor, PAGE)
            await self._copy(fields, changed=False)
        await self._cache.end_comparison(token)

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


async def fields_of_account(connection: AsyncConnection, account: str) -> list[str]:
    """Return the fields of all keys and users of an account, to be copied once these are gone."""
    return await _fields(connection, KEYS.c.account_id == account, USERS.c.account_id == account)


async def _fields(
    connection: AsyncConnection, keys: ColumnElement[bool], users: ColumnElement[bool]
) -> list[str]:
    digests: Iterable[str] = await connection.scalars(select(KEYS.c.sha256).where(keys))
    people = await connection.execute(select(USERS.c.id, USERS.c.email).where(users))
    return [*digests, *(field for row in people for field in user_fields(row.id, row.email))]
