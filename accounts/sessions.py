"""Sessions: a password begins one, a refresh token continues it, and a new password ends all.

Invariants: only the hash of a refresh token is kept; a token works once. If it is used a second
time it was stolen, so its whole session ends. An ended session is refused everywhere within a
second.
"""

import secrets
from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from accounts.access_tokens import AccessTokens, Claims
from accounts.cache_records import TOKENS, USERS
from accounts.cache_sync import CacheSync
from accounts.caller import Caller, digest_of
from accounts.errors import SessionOver, WrongPassword
from accounts.login_throttle import LoginThrottle
from accounts.passwords import Passwords
from accounts.records import USER, UserRecord
from accounts.users import Users, checked_email
from core.db.audit import audit
from core.db.database import Database
from core.db.tables.accounts import RefreshTokenRow
from core.db.tables.base import now
from core.errors import Forbidden
from core.ids import new_id
from core.settings.auth import AuthSettings

PREFIX = "rt_"
WRONG = "the email or the password is wrong"
OVER = "this session has ended: sign in again"


class Session(NamedTuple):
    """What a person gets at sign-in."""

    access_token: str
    refresh_token: str
    seconds: int
    refresh_seconds: int


class Sessions:
    """Begins, continues and ends sessions."""

    def __init__(
        self,
        database: Database,
        cache_sync: CacheSync,
        throttle: LoginThrottle,
        passwords: Passwords,
        settings: AuthSettings,
    ) -> None:
        self._database = database
        self._cache_sync = cache_sync
        self._throttle = throttle
        self._passwords = passwords
        self.tokens = AccessTokens(settings)
        self._seconds = settings.refresh_seconds

    async def sign_in(self, email: str, password: str, address: str) -> Session:
        """Begin a session.

        Raises:
            WrongPassword: No such user, a wrong password, no password, or the user is disabled.
            InvalidAccount: It is not an email.
            TooManySignIns, Busy, StoreUnavailable, DatabaseUnavailable: Try again later.
        """
        email = checked_email(email)
        await self._throttle.attempt(email, address)
        query = select(*USER).where(USERS.c.email == email)
        async with self._database.read() as connection:
            found = (await connection.execute(query)).one_or_none()
        user = None if found is None else UserRecord(*found)
        right = await self._passwords.verify(user.password_hash if user else None, password)
        if user is None or user.disabled_at is not None or not right:
            await self._record_failure(email, user, address)
            raise WrongPassword(WRONG)
        claims = Claims(user.id, new_id("session"), user.session)
        async with self._database.write() as connection:
            session = await self._next(connection, claims)
            await audit(
                connection, user.id, "signed_in", user.id, account=user.account_id, address=address
            )
        await self._throttle.succeeded(email, address)
        return session

    async def _record_failure(self, email: str, user: UserRecord | None, address: str) -> None:
        """Add a failed sign-in to the audit log; the throttle bounds how many there are.

        The email of a person that we do not know is kept as a digest: it may be a password that
        was typed into the wrong field.
        """
        if user is None:
            actor, account, reason = f"email:{digest_of(email)[:16]}", None, "unknown_email"
        else:
            actor, account = user.id, user.account_id
            reason = "wrong_password" if user.disabled_at is None else "user_disabled"
        async with self._database.write() as connection:
            await audit(
                connection,
                actor,
                "sign_in_failed",
                actor,
                account=account,
                address=address,
                reason=reason,
            )

    async def refresh(self, refresh_token: str) -> Session:
        """Continue a session with new tokens; the old refresh token is used up.

        Raises:
            SessionOver: The token is unknown, used, expired or revoked.
            StoreUnavailable, DatabaseUnavailable: Try again later.
        """
        digest, instant = digest_of(refresh_token), now()
        if not await self._exists(digest):
            raise SessionOver(OVER)
        unused = (
            TOKENS.c.sha256 == digest,
            TOKENS.c.used_at.is_(None),
            TOKENS.c.revoked_at.is_(None),
            TOKENS.c.expires_at > instant,
        )
        async with self._database.write() as connection:
            claims = await self._claims(connection, digest)
            # Of two concurrent requests, one uses the token and the other finds it used.
            taken = await connection.execute(update(TOKENS).where(*unused).values(used_at=instant))
            if taken.rowcount and claims is not None:
                return await self._next(connection, claims)
        await self._end(digest, "refresh_token_reused")
        raise SessionOver(OVER)

    async def sign_out(self, refresh_token: str) -> None:
        """End a session; without one, do nothing.

        Raises:
            StoreUnavailable, DatabaseUnavailable: The session may go on for a moment; repeat it.
        """
        digest = digest_of(refresh_token)
        if await self._exists(digest):
            await self._end(digest, "signed_out")

    async def _exists(self, digest: str) -> bool:
        """Return whether the token exists; without a write lock, so guesses block no writer."""
        query = select(TOKENS.c.sha256).where(TOKENS.c.sha256 == digest)
        async with self._database.read() as connection:
            return await connection.scalar(query) is not None

    async def _claims(self, connection: AsyncConnection, digest: str) -> Claims | None:
        """Return the claims of a user, or None if the user may not sign in or has a newer session.

        The user's sessions are locked until the end of the transaction.
        """
        query = (
            select(TOKENS.c.user_id, TOKENS.c.family, TOKENS.c.session)
            .join(USERS, USERS.c.id == TOKENS.c.user_id)
            .where(
                TOKENS.c.sha256 == digest,
                USERS.c.disabled_at.is_(None),
                USERS.c.session == TOKENS.c.session,
            )
            .with_for_update(of=USERS, key_share=True)
        )
        row = (await connection.execute(query)).one_or_none()
        return None if row is None else Claims(*row)

    async def _next(self, connection: AsyncConnection, claims: Claims) -> Session:
        secret = PREFIX + secrets.token_urlsafe(32)
        row = {
            "sha256": digest_of(secret),
            "family": claims.family,
            "user_id": claims.user,
            "session": claims.session,
            "expires_at": now() + timedelta(seconds=self._seconds),
        }
        await connection.execute(insert(RefreshTokenRow), [row])
        token = self.tokens.issue(claims)
        return Session(token, secret, self.tokens.seconds, self._seconds)

    async def _end(self, digest: str, why: str) -> None:
        """End the session of a token, if it belongs to one.

        Wait for a concurrent refresh of the session; otherwise its new token would not be ended.
        """
        async with self._database.write() as connection:
            query = (
                select(TOKENS.c.family, TOKENS.c.user_id, USERS.c.account_id)
                .join(USERS, USERS.c.id == TOKENS.c.user_id)
                .where(TOKENS.c.sha256 == digest)
                .with_for_update(of=USERS, key_share=True)
            )
            row = (await connection.execute(query)).one_or_none()
            if row is None:
                return
            family, user, account = row
            ended = await connection.execute(
                update(TOKENS)
                .where(TOKENS.c.family == family, TOKENS.c.revoked_at.is_(None))
                .values(revoked_at=now())
            )
            if ended.rowcount:
                # If the copy to the cache fails now, `keep_in_sync` makes it later.
                await connection.execute(
                    update(USERS).where(USERS.c.id == user).values(changed_at=now())
                )
                await audit(connection, user, why, family, account=account)
        await self._cache_sync.copy([user])


async def change_own_password(
    users: Users,
    throttle: LoginThrottle,
    caller: Caller,
    passwords: tuple[str, str],
    address: str,
) -> None:
    """Replace the password of a signed-in user; every session of the user ends.

    Args:
        users: Where the user's password is stored.
        throttle: Limits attempts with a wrong password.
        caller: The signed-in user.
        passwords: The current password and the new one.
        address: The client's IP address, for the audit log.

    Raises:
        Forbidden: The caller is an API key.
        TooManySignIns: Too many attempts with a wrong password.
        WrongPassword: The current password is wrong.
        InvalidAccount: The new password is too weak.
    """
    if caller.id != caller.user:
        raise Forbidden("An API key has no password: sign in first")
    current, new = passwords
    await throttle.attempt_change(caller.user)
    if not await users.check(caller.user, current):
        await users.record_wrong_password(caller, address)
        raise WrongPassword("current: the current password is wrong", param="current")
    await throttle.forgive_change(caller.user)
    await users.set_password(caller.id, caller.user, None, new)
