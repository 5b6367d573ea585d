"""Users: the people of an account, each with a role and perhaps a password.

Invariant: an account that has an admin keeps one. Disabling a user or changing the password ends
all sessions of that user.
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from accounts.account_rows import lock_account
from accounts.cache_records import USERS
from accounts.cache_sync import CacheSync
from accounts.caller import Caller, Role
from accounts.errors import AccountNotFound, EmailTaken, InvalidAccount, LastAdmin, UserNotFound
from accounts.passwords import Passwords, check_password
from accounts.records import USER, UserRecord
from core.db.audit import audit
from core.db.database import Database
from core.db.tables.accounts import AccountRow, UserRow
from core.db.tables.base import now, table_of
from core.ids import new_id

EMAIL = re.compile(r"[^\s@<>,;:\"\\()\[\]\x00-\x1f]{1,64}@[^\s@<>,;\"\\()\[\]\x00-\x1f]{1,250}")
#: What may stand around an email; other white space is refused.
SPACES = " \t\r\n"

ID = re.compile(r"user_[0-9a-f]{32}")
FIRST_SESSION = 1


def checked_email(text: str) -> str:
    """Return an email in the form in which it is stored and compared: in lower case.

    Nothing else is folded: two addresses that differ in more than case are two people.

    Raises:
        InvalidAccount: It is not an email, or has characters that are invisible or another form
            of others, such as fullwidth letters, with which it would look like another address.
    """
    given = text.strip(SPACES)
    email = given.lower()
    # `given`, because the Kelvin sign is a `k` in lower case.
    plain = given.isprintable() and unicodedata.is_normalized("NFKC", given)
    if not plain or len(email) > 254 or EMAIL.fullmatch(email) is None:
        raise InvalidAccount("email: an address such as ann@example.com is expected", param="email")
    return email


@dataclass(frozen=True, slots=True)
class UserUpdate:
    """Changes to a user; None leaves a field as it is.

    Attributes:
        bounds: Columns of scopes and limits to set.
    """

    role: Role | None = None
    disabled: bool | None = None
    bounds: Mapping[str, object] = field(default_factory=dict)


class Users:
    """The users in SQL. `account` None means all accounts, for the operator."""

    def __init__(self, database: Database, cache_sync: CacheSync, passwords: Passwords) -> None:
        self._database = database
        self._cache_sync = cache_sync
        self._passwords = passwords

    async def create(
        self,
        actor: str,
        account: str,
        email: str,
        role: Role,
        password: str | None = None,
        *,
        operator: bool = False,
    ) -> UserRecord:
        """Add a user. A user without a password can only sign in through an identity provider.

        Raises:
            InvalidAccount, EmailTaken, AccountNotFound: The user cannot be added.
            Busy, DatabaseUnavailable: Try again later.
        """
        email = checked_email(email)
        stored = None
        if password is not None:
            check_password(password, email)
            stored = await self._passwords.hash(password, account)
        user_id = new_id("user")
        user = {
            "id": user_id,
            "account_id": account,
            "email": email,
            "role": role.value,
            "password_hash": stored,
            "operator": operator,
            "session": FIRST_SESSION,
        }
        try:
            async with self._database.write() as connection:
                accounts = table_of(AccountRow)
                known = select(accounts.c.id).where(
                    accounts.c.id == account, accounts.c.deleted_at.is_(None)
                )
                if await connection.scalar(known) is None:
                    raise AccountNotFound(f"account {account!r} not found", param="account")
                await connection.execute(insert(UserRow), [user])
                await audit(
                    connection,
                    *(actor, "user_created", user_id),
                    account=account,
                    email=email,
                    role=role.value,
                    operator=operator,
                )
                made = await _find(connection, user_id, None)
        except IntegrityError:
            raise EmailTaken(f"a user {email} exists already", param="email") from None
        await self._cache_sync.try_copy([made.id, made.email])
        return made

    async def list(
        self, account: str | None, *, before: str | None, limit: int
    ) -> Sequence[UserRecord]:
        """Return users, newest first; of all accounts when `account` is None."""
        query = select(*USER).order_by(USERS.c.id.desc()).limit(limit)
        if account is not None:
            query = query.where(USERS.c.account_id == account, USERS.c.operator.is_(False))
        if before is not None:
            query = query.where(USERS.c.id < before)
        async with self._database.read() as connection:
            return [UserRecord(*row) for row in await connection.execute(query)]

    async def get(self, user_id: str, account: str | None) -> UserRecord:
        """Return a user.

        Raises:
            UserNotFound: The id is unknown or belongs to another account.
        """
        async with self._database.read() as connection:
            return await _find(connection, user_id, account)

    async def id_of(self, email: str) -> str:
        """Return the id of the user with this email.

        Raises:
            InvalidAccount: It is not an email.
            UserNotFound: There is none.
        """
        query = select(USERS.c.id).where(USERS.c.email == checked_email(email))
        async with self._database.read() as connection:
            found: str | None = await connection.scalar(query)
        if found is None:
            raise UserNotFound(f"user {email} not found")
        return found

    async def change(
        self, actor: str, user_id: str, account: str | None, change: UserUpdate
    ) -> UserRecord:
        """Change a user's role, or disable or enable the user.

        Raises:
            UserNotFound, LastAdmin: The change is refused.
            StoreUnavailable: The change is made and takes effect within seconds.
        """
        values: dict[str, object] = dict(change.bounds)
        async with self._database.write() as connection:
            user = await _find(connection, user_id, account)
            if change.role is not None:
                values["role"] = change.role.value
            if change.disabled is not None and change.disabled != (user.disabled_at is not None):
                values["disabled_at"] = now() if change.disabled else None
                values["session"] = USERS.c.session + 1
            if change.disabled or change.role not in (None, Role.ADMIN):
                await _keep_an_admin(connection, user)
            if values:
                query = update(USERS).where(USERS.c.id == user_id)
                await connection.execute(query.values(**values, changed_at=now()))
                await audit(
                    connection,
                    *(actor, "user_changed", user_id),
                    account=user.account_id,
                    **_said(change),
                )
            changed = await _find(connection, user_id, account)
        await self._cache_sync.copy_user(user_id)
        return changed

    async def set_password(
        self, actor: str, user_id: str, account: str | None, password: str
    ) -> None:
        """Set a user's password and end all sessions of the user.

        Raises:
            UserNotFound, InvalidAccount: The change is refused.
            StoreUnavailable: The change is made and takes effect within seconds.
        """
        user = await self.get(user_id, account)
        check_password(password, user.email)
        values = {
            "password_hash": await self._passwords.hash(password, user.account_id),
            "session": USERS.c.session + 1,
            "changed_at": now(),
        }
        async with self._database.write() as connection:
            await connection.execute(update(USERS).where(USERS.c.id == user_id).values(values))
            await audit(connection, actor, "password_set", user_id, account=user.account_id)
        await self._cache_sync.copy_user(user_id)

    async def record_wrong_password(self, caller: Caller, address: str) -> None:
        """Add a change of password that was refused to the audit log."""
        async with self._database.write() as connection:
            await audit(
                connection,
                caller.user,
                "password_change_failed",
                caller.user,
                account=caller.account,
                address=address,
                reason="wrong_password",
            )

    async def check(self, user_id: str, password: str) -> bool:
        """Return whether a password is the user's."""
        user = await self.get(user_id, None)
        return await self._passwords.verify(user.password_hash, password)


def _said(change: UserUpdate) -> dict[str, Any]:
    """Return what the audit log says of a change."""
    said = {"role": change.role, "disabled": change.disabled}
    return {name: value for name, value in said.items() if value is not None} | dict(change.bounds)


async def _find(connection: AsyncConnection, user_id: str, account: str | None) -> UserRecord:
    query = select(*USER).where(USERS.c.id == user_id)
    if ID.fullmatch(user_id) is None:
        raise UserNotFound(f"user {user_id!r} not found")
    if account is not None:
        # Only an operator may change an operator.
        query = query.where(USERS.c.account_id == account, USERS.c.operator.is_(False))
    found = (await connection.execute(query)).one_or_none()
    if found is None:
        raise UserNotFound(f"user {user_id} not found")
    return UserRecord(*found)


async def _keep_an_admin(connection: AsyncConnection, user: UserRecord) -> None:
    """Refuse a change that would leave an account without an admin."""
    if user.role != Role.ADMIN or user.disabled_at is not None:
        return
    # If two admins demote each other concurrently, PostgreSQL makes the second wait for the first.
    await lock_account(connection, user.account_id)
    others = select(func.count()).where(
        USERS.c.account_id == user.account_id,
        USERS.c.role == Role.ADMIN.value,
        USERS.c.disabled_at.is_(None),
        USERS.c.id != user.id,
    )
    if not await connection.scalar(others):
        raise LastAdmin(f"{user.email} is the last admin of {user.account_id}")
