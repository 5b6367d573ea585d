"""Opens everything about accounts that a process needs."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from accounts.accounts import Accounts
from accounts.api_keys import ApiKeys
from accounts.cache_sync import CacheSync
from accounts.login_throttle import LoginThrottle
from accounts.oidc import Issuer
from accounts.passwords import Passwords
from accounts.sessions import Sessions
from accounts.users import Users
from core.db.engine import Database
from core.settings.auth import AuthSettings
from core.settings.tree import Settings
from jobs.store.factory import open_store
from jobs.store.job_store import JobStore


@dataclass(frozen=True, slots=True)
class Directory:
    """Accounts, users and keys, and the copy of them in Redis."""

    copying: CacheSync
    keys: ApiKeys
    users: Users
    owners: Accounts
    passwords: Passwords


@dataclass(frozen=True, slots=True)
class SigningIn:
    """How people sign in."""

    sessions: Sessions
    throttle: LoginThrottle
    issuer: Issuer


def open_directory(database: Database, store: JobStore, settings: AuthSettings) -> Directory:
    """Return the directory; nothing is opened before its first use."""
    copying = CacheSync(database, store.callers, settings)
    passwords = Passwords()
    return Directory(
        copying=copying,
        keys=ApiKeys(database, copying),
        users=Users(database, copying, passwords),
        owners=Accounts(database, copying),
        passwords=passwords,
    )


@asynccontextmanager
async def directory_of(settings: Settings, process: str) -> AsyncGenerator[Directory, None]:
    """Open the directory for a command, and close it at the end."""
    database, store = Database(settings.database, process), open_store(settings)
    directory = open_directory(database, store, settings.auth)
    try:
        yield directory
    finally:
        directory.passwords.close()
        await database.close()
        await store.close()


def open_signing_in(
    database: Database, store: JobStore, directory: Directory, settings: AuthSettings
) -> SigningIn:
    """Return what signs people in.

    Raises:
        MissingSecretError: there is nothing to sign tokens with.
    """
    throttle = LoginThrottle(store.sign_ins, settings)
    sessions = Sessions(database, directory.copying, throttle, directory.passwords, settings)
    return SigningIn(sessions, throttle, Issuer(settings.oidc))
