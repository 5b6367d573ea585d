"""Setting passwords delays neither sign-ins nor other accounts."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from argon2 import PasswordHasher

from accounts import passwords
from accounts.errors import Busy
from accounts.passwords import MOST_NEW_PER_ACCOUNT, MOST_WAITING, Passwords

#: As weak as Argon2 allows: this test is about queues.
WEAK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class SlowHasher:
    """Hashes new passwords only after `go`."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.verify = WEAK.verify

    def hash(self, password: str) -> str:
        assert self.go.wait(60)
        return WEAK.hash(password)


@pytest.fixture
def hasher(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowHasher]:
    made = SlowHasher()
    monkeypatch.setattr(passwords, "_hasher", made)
    yield made
    made.go.set()


async def test_who_sets_many_passwords_delays_no_sign_in_and_no_other_account(
    hasher: SlowHasher,
) -> None:
    found = Passwords()
    found._nobodys = stored = WEAK.hash("right")
    tasks: list[asyncio.Task[Any]] = [
        asyncio.create_task(found.hash(str(number), "acme"))
        for number in range(MOST_NEW_PER_ACCOUNT)
    ]
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await found.hash("one more", "acme")
    tasks.append(asyncio.create_task(found.hash("another", "other")))
    await asyncio.sleep(0)
    assert await found.verify(stored, "right"), "while all new passwords wait"
    assert not await found.verify(None, "right")
    hasher.go.set()
    assert len(await asyncio.gather(*tasks)) == MOST_NEW_PER_ACCOUNT + 1
    assert await found.hash("again", "acme")
    found.close()


async def test_new_passwords_of_all_accounts_are_bounded(hasher: SlowHasher) -> None:
    found = Passwords()
    tasks = [
        asyncio.create_task(found.hash("x", f"account{number}")) for number in range(MOST_WAITING)
    ]
    await asyncio.sleep(0)
    with pytest.raises(Busy):
        await found.hash("x", "one-more")
    hasher.go.set()
    await asyncio.gather(*tasks)
    found.close()
