"""Races of sessions: signing out also ends a session that is being refreshed."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from accounts.account_rows import ensure_account
from accounts.caller import Role
from accounts.directory_factory import Directory, open_signing_in
from accounts.errors import SessionOver
from accounts.sessions import Session, Sessions
from core.db.database import Database
from core.settings.billing import DatabaseSettings
from core.settings.tree import Settings
from jobs.store.store_factory import open_store
from tests.conftest import settings_for
from tests.support.redis_server import RedisServer

EMAIL, PASSWORD = "ann@example.com", "correct horse battery"


@pytest.fixture
def settings(redis_server: RedisServer, database_settings: DatabaseSettings) -> Settings:
    return settings_for(redis_server, database=database_settings.model_dump(exclude_unset=True))


@pytest.fixture
async def sessions(
    settings: Settings, directory: Directory, database: Database
) -> AsyncIterator[Sessions]:
    """The session store, with the user ann of acme."""
    await ensure_account(database, "acme")
    await directory.users.create("test", "acme", EMAIL, Role.MEMBER, PASSWORD)
    store = open_store(settings)
    yield open_signing_in(database, directory, settings.auth).sessions
    await store.close()


@pytest.mark.parametrize("older", [False, True], ids=["newest", "older"])
async def test_signing_out_ends_a_session_that_is_being_refreshed(
    sessions: Sessions, monkeypatch: pytest.MonkeyPatch, *, older: bool
) -> None:
    first = await sessions.sign_in(EMAIL, PASSWORD, "192.0.2.1")
    second = await sessions.refresh(first.refresh_token)
    halfway, go_on = asyncio.Event(), asyncio.Event()
    make = Sessions._next

    async def slowly(self: Sessions, *arguments: Any) -> Session:
        made = await make(self, *arguments)
        halfway.set()
        await go_on.wait()
        return made

    monkeypatch.setattr(Sessions, "_next", slowly)
    refreshing = asyncio.create_task(sessions.refresh(second.refresh_token))
    await asyncio.wait_for(halfway.wait(), 5)
    shown = first if older else second
    leaving = asyncio.create_task(sessions.sign_out(shown.refresh_token))
    await asyncio.sleep(0.5)  # so that it has come as far as it can
    assert not leaving.done()
    go_on.set()
    third = await refreshing
    await leaving
    with pytest.raises(SessionOver):
        await sessions.refresh(third.refresh_token)


async def test_a_token_that_was_never_given_out_waits_for_nobody_who_writes(
    sessions: Sessions, database: Database
) -> None:
    """These routes need no key, so guesses must not take the lock that writers need."""
    async with database.write(), asyncio.timeout(2):
        with pytest.raises(SessionOver):
            await sessions.refresh("rt_guess")
        await sessions.sign_out("rt_guess")
