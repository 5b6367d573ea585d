"""API keys in SQL: create, list, change, rotate and revoke.

Invariants: the secret is returned once, on creation, and only its hash is kept. A rotated key is
valid beside its successor only for the requested overlap. A revoked key never becomes valid again.
"""

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import ColumnElement, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from accounts.bounds import SCOPES, Rank, bounds_set
from accounts.cache_records import KEYS
from accounts.cache_sync import CacheSync
from accounts.caller import NO_LIMITS, PREFIX, Limits, Role, digest_of
from accounts.errors import AccountNotFound, KeyNotFound
from accounts.records import KEY, KeyRecord
from core.db.audit import audit
from core.db.database import Database
from core.db.tables.accounts import AccountRow, ApiKeyRow
from core.db.tables.base import now, table_of
from core.errors import Forbidden
from core.ids import new_id

ID = re.compile(r"key_[0-9a-f]{32}")
SECRET_BYTES = 32
#: How much of a key is shown and can be searched for: `pk_` and eight characters.
SHOWN = 11


@dataclass(frozen=True, slots=True)
class NewKey:
    """The values of a new key; of `models`, `routes` and `networks` None means all.

    Attributes:
        rank: Who creates it, and so may lift its bounds.
    """

    account: str
    name: str = ""
    role: Role = Role.MEMBER
    user: str | None = None
    models: Sequence[str] | None = None
    routes: Sequence[str] | None = None
    networks: Sequence[str] | None = None
    weight: float = 1.0
    limits: Limits = NO_LIMITS
    expires_at: datetime | None = None
    operator: bool = False
    rank: Rank = Rank.USER


class MadeKey(NamedTuple):
    """A new key: the secret, which is not kept, and its row."""

    secret: str
    row: KeyRecord


class KeyFilter(NamedTuple):
    """Which keys to select; None means all, but the operator's own only on request."""

    account: str | None
    user: str | None = None
    operators: bool = False


EVERYBODY = KeyFilter(None, operators=True)


class ApiKeys:
    """The keys in SQL."""

    def __init__(self, database: Database, cache_sync: CacheSync) -> None:
        self._database = database
        self._cache_sync = cache_sync

    async def create(self, actor: str, new: NewKey) -> MadeKey:
        """Create a key; it works at once, or within seconds when Redis is away.

        Raises:
            AccountNotFound: The account does not exist.
            DatabaseUnavailable: Try again later.
        """
        async with self._database.write() as connection:
            accounts = table_of(AccountRow)
            known = select(accounts.c.id).where(
                accounts.c.id == new.account, accounts.c.deleted_at.is_(None)
            )
            if await connection.scalar(known) is None:
                raise AccountNotFound(f"account {new.account!r} not found", param="account")
            made = await _insert(connection, _columns(new))
            await audit(
                connection,
                *(actor, "key_created", made.row.id),
                account=new.account,
                prefix=made.row.prefix,
                role=new.role.value,
                operator=new.operator,
            )
        await self._cache_sync.try_copy([made.row.sha256])
        return made

    async def list(
        self,
        key_filter: KeyFilter,
        *,
        prefix: str = "",
        before: str | None = None,
        limit: int = 100,
    ) -> Sequence[KeyRecord]:
        """Return keys, newest first, including revoked ones."""
        query = select(*KEY).where(*_conditions(key_filter)).order_by(KEYS.c.id.desc()).limit(limit)
        if prefix:
            query = query.where(KEYS.c.prefix.startswith(prefix, autoescape=True))
        if before is not None:
            query = query.where(KEYS.c.id < before)
        async with self._database.read() as connection:
            return [KeyRecord(*row) for row in await connection.execute(query)]

    async def get(self, key_id: str, key_filter: KeyFilter) -> KeyRecord:
        """Return a key.

        Raises:
            KeyNotFound: The id is unknown or belongs to another account.
        """
        async with self._database.read() as connection:
            return await _find(connection, key_id, key_filter)

    async def change(
        self,
        actor: str,
        key_id: str,
        key_filter: KeyFilter,
        values: Mapping[str, object],
        rank: Rank,
    ) -> KeyRecord:
        """Change columns of a key that is not revoked.

        Raises:
            KeyNotFound: The key is unknown, of another account, or revoked.
            Forbidden: A higher rank set a bound; or the key was rotated and would end later.
            StoreUnavailable: The change is made and takes effect within seconds.
        """
        async with self._database.write() as connection:
            await _lock(connection, key_id)
            old = await _find(connection, key_id, key_filter, revoked=False)
            set_by = bounds_set(asdict(old), old.set_by, values, rank)
            if "expires_at" in values:
                await _check_end(connection, old, values["expires_at"])
            if values:
                query = update(KEYS).where(KEYS.c.id == key_id)
                columns = {**values, "set_by": set_by, "changed_at": now()}
                await connection.execute(query.values(columns))
            row = await _find(connection, key_id, key_filter)
            fields = sorted(values)
            await audit(
                connection, actor, "key_changed", key_id, account=row.account_id, fields=fields
            )
        await self._cache_sync.copy([row.sha256])
        return row

    async def rotate(
        self, actor: str, key_id: str, key_filter: KeyFilter, overlap: timedelta
    ) -> MadeKey:
        """Create a copy of a key with a new secret; the old key expires after `overlap`.

        Raises:
            KeyNotFound: The key is unknown, of another account, revoked or expired.
            DatabaseUnavailable: Try again later.
        """
        instant = now()
        end = instant + overlap
        async with self._database.write() as connection:
            await _lock(connection, key_id)
            old = await _find(connection, key_id, key_filter, revoked=False)
            if old.expires_at is not None and old.expires_at <= instant:
                raise KeyNotFound(f"the key {key_id} has expired")
            made = await _insert(connection, _successor(old))
            until = end if old.expires_at is None else min(end, old.expires_at)
            query = update(KEYS).where(KEYS.c.id == key_id)
            await connection.execute(query.values(expires_at=until, changed_at=instant))
            await audit(
                connection,
                *(actor, "key_rotated", key_id),
                account=old.account_id,
                successor=made.row.id,
                overlap_seconds=overlap.total_seconds(),
            )
        await self._cache_sync.try_copy([made.row.sha256, old.sha256])
        return made

    async def revoke(self, actor: str, key_id: str, key_filter: KeyFilter) -> None:
        """Revoke a key for good; may be repeated.

        Raises:
            KeyNotFound: The key is unknown or of another account.
            StoreUnavailable: It is revoked, and refused within seconds; repeat the call to be sure.
        """
        async with self._database.write() as connection:
            row = await _find(connection, key_id, key_filter)
            if row.revoked_at is None:
                instant = now()
                query = update(KEYS).where(KEYS.c.id == key_id)
                await connection.execute(query.values(revoked_at=instant, changed_at=instant))
                await audit(connection, actor, "key_revoked", key_id, account=row.account_id)
        await self._cache_sync.copy([row.sha256])


async def _lock(connection: AsyncConnection, key_id: str) -> None:
    """Lock a key until the transaction ends, so that a change and a rotation follow each other."""
    await connection.execute(select(KEYS.c.id).where(KEYS.c.id == key_id).with_for_update())


async def _check_end(connection: AsyncConnection, old: KeyRecord, end: object) -> None:
    """Refuse to let a rotated key go on for longer than its rotation said."""
    query = select(KEYS.c.id).where(KEYS.c.rotated_from == old.id).limit(1)
    if await connection.scalar(query) is None or old.expires_at is None:
        return
    if not isinstance(end, datetime) or end > old.expires_at:
        raise Forbidden("This key was rotated: it can only end earlier", param="expires_at")


def _columns(new: NewKey) -> dict[str, object]:
    columns = {
        "account_id": new.account,
        "user_id": new.user,
        "name": new.name,
        "role": new.role.value,
        "models": _names(new.models),
        "routes": _names(new.routes),
        "networks": _names(new.networks),
        "weight": new.weight,
        "admin": new.operator,
        "expires_at": new.expires_at,
        **new.limits.model_dump(),
    }
    before = dict.fromkeys((*SCOPES, "expires_at")) | dict.fromkeys(Limits.model_fields, 0)
    return columns | {"set_by": bounds_set({"role": "", **before}, None, columns, new.rank)}


def _names(names: Sequence[str] | None) -> list[str] | None:
    return None if names is None else sorted(set(names))


def _successor(old: KeyRecord) -> dict[str, object]:
    kept = (
        *("account_id", "user_id", "name", "role", "models", "routes", "networks", "weight"),
        *("admin", "expires_at", "set_by", *Limits.model_fields),
    )
    return {
        **{name: getattr(old, name) for name in kept},
        "rotated_from": old.id,
        "origin_id": old.origin_id or old.id,
    }


async def _insert(connection: AsyncConnection, columns: Mapping[str, object]) -> MadeKey:
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    key_id = new_id("key")
    row = {**columns, "id": key_id, "sha256": digest_of(secret), "prefix": secret[:SHOWN]}
    await connection.execute(insert(ApiKeyRow), [row])
    return MadeKey(secret, await _find(connection, key_id, EVERYBODY))


def _conditions(key_filter: KeyFilter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if key_filter.account is not None:
        found.append(KEYS.c.account_id == key_filter.account)
    if key_filter.user is not None:
        found.append(KEYS.c.user_id == key_filter.user)
    if not key_filter.operators:
        # Otherwise an admin of the operator's account could become operator by rotating a key.
        found.append(KEYS.c.admin.is_(False))
    return found


async def _find(
    connection: AsyncConnection, key_id: str, key_filter: KeyFilter, *, revoked: bool = True
) -> KeyRecord:
    query = select(*KEY).where(KEYS.c.id == key_id, *_conditions(key_filter))
    if ID.fullmatch(key_id) is None:
        raise KeyNotFound(f"key {key_id!r} not found")
    if not revoked:
        query = query.where(KEYS.c.revoked_at.is_(None))
    found = (await connection.execute(query)).one_or_none()
    if found is None:
        raise KeyNotFound(f"key {key_id} not found")
    return KeyRecord(*found)
