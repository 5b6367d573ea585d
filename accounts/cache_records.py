"""Reads from SQL the records of callers that Redis caches.

Invariant: a revoked key, a disabled user and the keys of a disabled user have no record. A key
never has more rights than the user who made it.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Row, Select, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from accounts.caller import Caller, Limits, Role
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

ACCOUNT_COLUMNS = (
    ACCOUNTS.c.suspended_at,
    *(
        ACCOUNTS.c[name].label(f"account_{name}")
        for name in ("requests_per_minute", "tokens_per_minute", "max_running", "max_queued")
    ),
)


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
        for row in await connection.execute(_keys().where(KEYS.c.sha256.in_(digests))):
            found[row.sha256] = _encoded(key_record(row))
    if ids or emails:
        named = or_(USERS.c.id.in_(ids), USERS.c.email.in_(emails))
        rows = (await connection.execute(_users().where(named))).all()
        ended = await _ended_sessions(connection, [row.id for row in rows], now() - recent)
        for row in rows:
            record = _encoded(user_record(row, ended.get(row.id, ())))
            found |= {name: record for name in user_fields(row.id, row.email) if name in found}
    return found


def _keys() -> Select[Any]:
    return (
        select(
            KEYS,
            *ACCOUNT_COLUMNS,
            USERS.c.disabled_at.label("user_disabled_at"),
            USERS.c.role.label("user_role"),
            USERS.c.operator.label("user_operator"),
        )
        .join(ACCOUNTS, KEYS.c.account_id == ACCOUNTS.c.id)
        .outerjoin(USERS, KEYS.c.user_id == USERS.c.id)
    )


def _users() -> Select[Any]:
    return select(USERS, *ACCOUNT_COLUMNS).join(ACCOUNTS, USERS.c.account_id == ACCOUNTS.c.id)


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
    for row in await connection.execute(query):
        ended[row.user_id] = (*ended.get(row.user_id, ()), row.family)
    return ended


def _encoded(record: Caller | None) -> bytes | None:
    """Return the cached form, with sorted sets, because records are compared byte by byte."""
    if record is None:
        return None
    fields = record.model_dump(mode="json")
    for name in ("models", "routes"):
        fields[name] = None if fields[name] is None else sorted(fields[name])
    return orjson.dumps(fields)


def _account_limits(row: Row[Any]) -> Limits:
    return Limits(
        requests_per_minute=row.account_requests_per_minute,
        tokens_per_minute=row.account_tokens_per_minute,
        max_running=row.account_max_running,
        max_queued=row.account_max_queued,
    )


def key_record(row: Row[Any]) -> Caller | None:
    """Return a key's record, None when it was revoked or its user disabled."""
    if row.revoked_at is not None or row.user_disabled_at is not None:
        return None
    role, operator = Role(row.role), row.admin
    if row.user_id is not None:
        role = role if role in LENDS[row.user_role] else Role(row.user_role)
        operator = operator and row.user_operator
    return Caller(
        id=row.id,
        account=row.account_id,
        user=row.user_id or "",
        name=row.name,
        origin=row.origin_id or "",
        role=role,
        operator=operator,
        weight=row.weight,
        models=_scope(row.models),
        routes=_scope(row.routes),
        networks=None if row.networks is None else tuple(row.networks),
        limits=Limits(
            requests_per_minute=row.requests_per_minute,
            tokens_per_minute=row.tokens_per_minute,
            max_running=row.max_running,
            max_queued=row.max_queued,
        ),
        account_limits=_account_limits(row),
        expires=0.0 if row.expires_at is None else row.expires_at.timestamp(),
        suspended=row.suspended_at is not None,
    )


def _scope(names: list[str] | None) -> frozenset[str] | None:
    return None if names is None else frozenset(names)


def user_record(row: Row[Any], ended: Iterable[str]) -> Caller | None:
    """Return the record of a person who is signed in, None when disabled."""
    if row.disabled_at is not None:
        return None
    return Caller(
        id=row.id,
        account=row.account_id,
        user=row.id,
        name=row.email,
        role=Role(row.role),
        operator=row.operator,
        account_limits=_account_limits(row),
        suspended=row.suspended_at is not None,
        session=row.session,
        ended=tuple(ended),
    )
