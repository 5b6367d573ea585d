"""Passwords: Argon2id, in threads of their own, a few at a time.

Invariant: checking costs the same whether there is such a user or not, never holds up the event
loop, and needs bounded memory whoever knocks.
"""

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from accounts.errors import Busy, InvalidAccount

T = TypeVar("T")

#: RFC 9106's second recommendation: 64 MiB each.
_hasher = PasswordHasher()
AT_ONCE = 2
#: A hash takes about 0.1 s; who would wait longer than this many of them is sent away.
MOST_WAITING = 32
RETRY_AFTER_SECONDS = 2.0

SHORTEST, LONGEST = 10, 256


def check_password(password: str, email: str) -> None:
    """Refuse a password that is easily guessed or cannot be typed.

    Raises:
        InvalidAccount: saying what is expected.
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


class Passwords:
    """Hashes and checks."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="argon2")
        self._waiting = 0
        self._nobodys: str | None = None

    async def hash(self, password: str) -> str:
        """Return what is stored.

        Raises:
            Busy: come back later.
        """
        return await self._run(_hasher.hash, password)

    async def verify(self, stored: str | None, password: str) -> bool:
        """Say whether a password is right; never without a hash to compare with.

        Raises:
            Busy: come back later.
        """
        return await self._run(self._verify, stored, password)

    def _verify(self, stored: str | None, password: str) -> bool:
        if self._nobodys is None:
            self._nobodys = _hasher.hash(secrets.token_urlsafe())
        try:
            _hasher.verify(stored or self._nobodys, password)
        except VerifyMismatchError:
            return False
        return stored is not None

    async def _run(self, work: Callable[..., T], *arguments: Any) -> T:
        if self._waiting >= MOST_WAITING:
            raise Busy("too many people sign in", retry_after_seconds=RETRY_AFTER_SECONDS)
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, work, *arguments)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Let the threads go."""
        self._threads.shutdown(wait=False, cancel_futures=True)
