"""Builds the `Directory`: accounts, users, keys and passwords in SQL, and their cache in Redis.

`open_directory` builds it for a process that has its connections, `directory_of` for a command.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from redis.asyncio import Redis

from accounts.accounts import Accounts
from accounts.api_keys import ApiKeys
from accounts.cache_scripts import open_scripts
from accounts.cache_sync import CacheSync
from accounts.cache_writer import CallerCacheWriter
from accounts.login_throttle import LoginThrottle
from accounts.oidc import Issuer
from accounts.passwords import Passwords
from accounts.sessions import Sessions
from accounts.sign_in_attempts import SignInAttempts
from accounts.users import Users
from core.db.database import Database
from core.redis.client import connect
from core.redis.keys import Keys
from core.redis.scripts import Scripts
from core.settings.auth import AuthSettings
from core.settings.tree import Settings


@dataclass(frozen=True, slots=True)
class Directory:
    """Accounts, users and keys in SQL, and their cache in Redis.

    Attributes:
        cache: The cache itself, for reading and writing single records.
        cache_sync: Copies changes from SQL to the cache.
    """

    cache: CallerCacheWriter
    cache_sync: CacheSync
    keys: ApiKeys
    users: Users
    accounts: Accounts
    passwords: Passwords
    sign_ins: SignInAttempts
    scripts: Scripts

    async def close(self) -> None:
        """End the password workers and close the connections of the scripts."""
        self.passwords.close()
        await self.scripts.close()


@dataclass(frozen=True, slots=True)
class SigningIn:
    """How people sign in."""

    sessions: Sessions
    throttle: LoginThrottle
    issuer: Issuer


def open_directory(database: Database, redis: Redis, settings: Settings) -> Directory:
    """Return the directory; connections open on first use.

    Args:
        database: Where accounts, users and keys are.
        redis: Where callers are cached; its owner closes it after the directory.
        settings: All settings; the prefix of Redis and `auth` are read.
    """
    keys, scripts = Keys(settings.redis.prefix), open_scripts(redis, settings.redis.prefix)
    cache = CallerCacheWriter(redis, keys, scripts)
    cache_sync = CacheSync(database, cache, settings.auth)
    passwords = Passwords()
    return Directory(
        cache=cache,
        cache_sync=cache_sync,
        keys=ApiKeys(database, cache_sync),
        users=Users(database, cache_sync, passwords),
        accounts=Accounts(database, cache_sync),
        passwords=passwords,
        sign_ins=SignInAttempts(redis, keys, scripts),
        scripts=scripts,
    )


@asynccontextmanager
async def directory_of(settings: Settings, process: str) -> AsyncGenerator[Directory, None]:
    """Open the directory for a command, and close it at the end."""
    database, redis = Database(settings.database, process), connect(settings.redis)
    directory = open_directory(database, redis, settings)
    try:
        yield directory
    finally:
        await directory.close()
        await database.close()
        await redis.aclose()


def open_signing_in(database: Database, directory: Directory, settings: AuthSettings) -> SigningIn:
    """Return what signs people in.

    Raises:
        MissingSecretError: There is no secret to sign tokens with.
    """
    throttle = LoginThrottle(directory.sign_ins, settings)
    sessions = Sessions(database, directory.cache_sync, throttle, directory.passwords, settings)
    return SigningIn(sessions, throttle, Issuer(settings.oidc))
