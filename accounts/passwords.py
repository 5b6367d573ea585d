"""Hashes and checks passwords: Argon2id, a few at a time, in threads of their own.

Invariants: a check costs the same whether the user exists or not, never blocks the event loop, and
needs bounded memory however many people sign in. New passwords wait in a queue of their own, in
which an account has few places, so creating users delays neither sign-ins nor other accounts.
"""

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from accounts.errors import Busy, InvalidAccount

T = TypeVar("T")

#: RFC 9106's second recommendation: 64 MiB each.
_hasher = PasswordHasher()
CHECKS_AT_ONCE = 2
HASHES_AT_ONCE = 1
#: A hash takes about 0.1 s; a request is refused when this many run or wait, of each kind.
MOST_WAITING = 32
#: How many new passwords of one account may run or wait.
MOST_NEW_PER_ACCOUNT = 8
RETRY_AFTER_SECONDS = 2.0

SHORTEST, LONGEST = 10, 256


def check_password(password: str, email: str) -> None:
    """Refuse a password that is easy to guess or cannot be typed.

    Raises:
        InvalidAccount: The message says what is expected.
    """
    if not SHORTEST <= len(password) <= LONGEST:
        raise InvalidAccount(
            f"password: {SHORTEST} to {LONGEST} characters are expected", param="password"
        )
    try:
        password.encode()
    except UnicodeEncodeError:
        raise InvalidAccount("password: text in Unicode is expected", param="password") from None
    if password.casefold() in (email.casefold(), email.partition("@")[0].casefold()):
        raise InvalidAccount(
            "password: something else than the email is expected", param="password"
        )
    if len(set(password)) < 4:
        raise InvalidAccount("password: more different characters are expected", param="password")


class _Queue:
    """Threads for one kind of work, and a bounded number of requests that wait for them."""

    def __init__(self, threads: int, name: str) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._waiting: Counter[str] = Counter()

    async def run(self, owner: str, most: int, work: Callable[..., T], *arguments: Any) -> T:
        """Run work in a thread.

        Raises:
            Busy: Too many requests wait, of all owners or of this one.
        """
        if self._waiting.total() >= MOST_WAITING or self._waiting.get(owner, 0) >= most:
            raise Busy(
                "too many passwords are checked or set at the moment",
                retry_after_seconds=RETRY_AFTER_SECONDS,
            )
        self._waiting[owner] += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, work, *arguments)
        finally:
            self._waiting[owner] -= 1
            if not self._waiting[owner]:
                del self._waiting[owner]

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class Passwords:
    """Hashes and checks passwords."""

    def __init__(self) -> None:
        self._checks = _Queue(CHECKS_AT_ONCE, "argon2-check")
        self._hashes = _Queue(HASHES_AT_ONCE, "argon2-hash")
        self._nobodys: str | None = None

    async def hash(self, password: str, account: str) -> str:
        """Return the hash to store for a user of an account.

        Raises:
            Busy: Too many passwords are set; try again later.
        """
        return await self._hashes.run(account, MOST_NEW_PER_ACCOUNT, _hasher.hash, password)

    async def verify(self, stored: str | None, password: str) -> bool:
        """Return whether a password is right; without a hash, check against a dummy.

        Raises:
            Busy: Too many people sign in; try again later.
        """
        return await self._checks.run("", MOST_WAITING, self._verify, stored, password)

    def _verify(self, stored: str | None, password: str) -> bool:
        if self._nobodys is None:
            self._nobodys = _hasher.hash(secrets.token_urlsafe())
        try:
            _hasher.verify(stored or self._nobodys, password)
        except VerifyMismatchError:
            return False
        return stored is not None

    def close(self) -> None:
        """End the threads."""
        self._checks.close()
        self._hashes.close()
