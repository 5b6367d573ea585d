"""Hashes and checks passwords: Argon2id, a few at a time, in threads of their own.

Invariant: a check costs the same whether the user exists or not, never blocks the event loop, and
needs bounded memory however many people sign in.
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
#: A hash takes about 0.1 s; a request is refused when this many are waiting.
MOST_WAITING = 32
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


class Passwords:
    """Hashes and checks passwords."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="argon2")
        self._waiting = 0
        self._nobodys: str | None = None

    async def hash(self, password: str) -> str:
        """Return the hash to store.

        Raises:
            Busy: Too many people sign in; try again later.
        """
        return await self._run(_hasher.hash, password)

    async def verify(self, stored: str | None, password: str) -> bool:
        """Return whether a password is right; without a hash, check against a dummy.

        Raises:
            Busy: Too many people sign in; try again later.
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
            raise Busy(
                "too many people sign in at the moment", retry_after_seconds=RETRY_AFTER_SECONDS
            )
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, work, *arguments)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """End the threads."""
        self._threads.shutdown(wait=False, cancel_futures=True)
