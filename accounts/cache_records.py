"""Reads from SQL the records of callers that Redis caches.

Invariant: a revoked key, a disabled user and the keys of a disabled user have no record. A key
never has more rights than the user who made it.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import orjson
from sqlalchemy import or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from accounts.bounds import networks_within, within
from accounts.caller import Caller, Role
from accounts.records import (
    ACCOUNT_STATE,
    KEY,
    KEY_MAKER,
    USER,
    AccountState,
    KeyMaker,
    KeyRecord,
    UserRecord,
)
from core.db.row_mapping import parts_of
from core.db.tables.accounts import AccountRow, RefreshTokenRow, UserRow
from core.db.tables.accounts import ApiKeyRow as KeyRow
from core.db.tables.base import now, table_of

ACCOUNTS, USERS, KEYS = table_of(AccountRow), table_of(UserRow), table_of(KeyRow)
TOKENS = table_of(RefreshTokenRow)

USER_ID = "user_"

#: The roles that a user of each role may give to a key.
LENDS: dict[str, frozenset[str]] = {
    Role.ADMIN: frozenset(Role),
    Role.MEMBER: frozenset({Role.MEMBER, Role.VIEWER}),
    Role.BILLING: frozenset({Role.BILLING}),
    Role.VIEWER: frozenset({Role.VIEWER}),
}


#: A key, its account, and the user who made it; in this order.
KEY_CALLERS = (
    select(*KEY, *ACCOUNT_STATE, *KEY_MAKER)
    .join(ACCOUNTS, KEYS.c.account_id == ACCOUNTS.c.id)
    .outerjoin(USERS, KEYS.c.user_id == USERS.c.id)
)
#: A user and the user's account.
USER_CALLERS = select(*USER, *ACCOUNT_STATE).join(ACCOUNTS, USERS.c.account_id == ACCOUNTS.c.id)


def user_fields(user_id: str, email: str) -> list[str]:
    """Return the fields of a user's record: the id, and the email that tokens of an issuer name."""
    return [user_id, email]


async def read_records(
    connection: AsyncConnection, fields: Sequence[str], recent: timedelta
) -> dict[str, bytes | None]:
    """Return the encoded record of each field, None for a field that may not call.

    Args:
        connection: SQL.
        fields: Digests of keys, ids or emails of users.
        recent: How long an access token may outlive its session.
    """
    ids = [field for field in fields if field.startswith(USER_ID)]
    emails = [field for field in fields if "@" in field]
    digests = list(set(fields) - {*ids, *emails})
    found: dict[str, bytes | None] = dict.fromkeys(fields)
    if digests:
        for row in await connection.execute(KEY_CALLERS.where(KEYS.c.sha256.in_(digests))):
            key, account, maker = parts_of(row, KeyRecord, AccountState, KeyMaker)
            found[key.sha256] = _encoded(_key_caller(key, account, maker))
    if ids or emails:
        named = or_(USERS.c.id.in_(ids), USERS.c.email.in_(emails))
        rows = await connection.execute(USER_CALLERS.where(named))
        users = [parts_of(row, UserRecord, AccountState) for row in rows]
        ended = await _ended_sessions(connection, [user.id for user, _ in users], now() - recent)
        for user, account in users:
            record = _encoded(_user_caller(user, account, ended.get(user.id, ())))
            found |= {name: record for name in user_fields(user.id, user.email) if name in found}
    return found


async def _ended_sessions(
    connection: AsyncConnection, users: Sequence[str], since: datetime
) -> Mapping[str, tuple[str, ...]]:
    query = (
        select(TOKENS.c.user_id, TOKENS.c.family)
        .where(TOKENS.c.user_id.in_(users), TOKENS.c.revoked_at > since)
        .distinct()
        .order_by(TOKENS.c.family)
    )
    ended: dict[str, tuple[str, ...]] = {}
    for user, family in await connection.execute(query):
        ended[user] = (*ended.get(user, ()), family)
    return ended


def _encoded(record: Caller | None) -> bytes | None:
    """Return the cached form, with sorted sets, because records are compared byte by byte."""
    if record is None:
        return None
    fields = record.model_dump(mode="json")
    for name in ("models", "routes"):
        fields[name] = None if fields[name] is None else sorted(fields[name])
    return orjson.dumps(fields)


def _key_caller(key: KeyRecord, account: AccountState, maker: KeyMaker) -> Caller | None:
    """Return a key's record, None when it was revoked or its user disabled."""
    if key.revoked_at is not None or maker.disabled_at is not None:
        return None
    role, operator = Role(key.role), key.admin
    if maker.role is not None:
        role = role if role in LENDS[maker.role] else Role(maker.role)
        operator = operator and bool(maker.operator)
    return Caller(
        id=key.id,
        account=key.account_id,
        user=key.user_id or "",
        name=key.name,
        origin=key.origin_id or "",
        role=role,
        operator=operator,
        weight=key.weight,
        models=_scope(within(key.models, maker.models)),
        routes=_scope(within(key.routes, maker.routes)),
        networks=networks_within(key.networks, maker.networks),
        limits=key.limits,
        user_limits=maker.limits,
        account_limits=account.limits,
        expires=0.0 if key.expires_at is None else key.expires_at.timestamp(),
        suspended=account.suspended_at is not None,
    )


def _scope(names: list[str] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)


def _user_caller(user: UserRecord, account: AccountState, ended: Iterable[str]) -> Caller | None:
    """Return the record of a person who is signed in, None when disabled."""
    if user.disabled_at is not None:
        return None
    return Caller(
        id=user.id,
        account=user.account_id,
        user=user.id,
        name=user.email,
        role=Role(user.role),
        operator=user.operator,
        models=_scope(user.models),
        routes=_scope(user.routes),
        networks=None if user.networks is None else tuple(user.networks),
        user_limits=user.limits,
        account_limits=account.limits,
        suspended=account.suspended_at is not None,
        session=user.session,
        ended=tuple(ended),
    )
