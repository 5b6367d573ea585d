"""API keys for tests, created as users create them: in SQL, with a copy in Redis."""

import asyncio
import shutil
import sqlite3
import tempfile
from collections.abc import Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import SecretStr
from sqlalchemy import make_url

from accounts.account_rows import ensure_account
from accounts.api_keys import NewKey
from accounts.caller import NO_LIMITS, Limits
from accounts.directory_factory import directory_of
from core.db.database import Database, is_sqlite
from core.db.schema_version import upgrade
from core.settings.billing import DatabaseSettings
from core.settings.tree import Settings

T = TypeVar("T")


def sqlite_in(directory: Path) -> dict[str, Any]:
    """Return the settings of a SQLite database in a test's own directory."""
    return {"url": f"sqlite+aiosqlite:///{directory}/penstock.db"}


@lru_cache
def template() -> Path:
    """Return a SQLite file with all tables; migrating takes far longer than copying it."""
    path = Path(tempfile.mkdtemp(prefix="penstock-template-")) / "penstock.db"
    upgrade(DatabaseSettings(url=SecretStr(f"sqlite+aiosqlite:///{path}")))
    return path


def prepare_database(settings: Settings) -> None:
    """Create the tables of a SQLite database; its file may exist already."""
    assert "url" in settings.database.model_fields_set, "the test must say which database"
    url = make_url(settings.database.url.get_secret_value())
    if is_sqlite(url) and url.database:
        if not Path(url.database).exists():
            shutil.copy(template(), url.database)
        with closing(sqlite3.connect(url.database)) as connection:
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if not tables:
            upgrade(settings.database)


def while_sql_was_there(settings: Settings, directory: Path) -> Settings:
    """Return the same settings with a working database: to create keys before an outage."""
    values = {**settings.model_dump(exclude_unset=True), "database": sqlite_in(directory)}
    return Settings(_env_file=None, **values)


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end, with or without a running loop in this thread."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def make_key(settings: Settings, account: str = "acme", **fields: Any) -> str:
    """Create a key, and its tables and account if they are missing.

    `fields` are those of `NewKey`, and `admin` for the operator, `account_limits` for the account.
    """
    return make_several(settings, (account, fields))[0]


def make_several(settings: Settings, *wanted: tuple[str, dict[str, Any]]) -> list[str]:
    """Create several keys, each with an account and fields."""
    prepare_database(settings)
    return wait_for(_make(settings, wanted))


async def _make(settings: Settings, wanted: Iterable[tuple[str, dict[str, Any]]]) -> list[str]:
    database = Database(settings.database, "test")
    async with directory_of(settings, "test") as directory:
        made = []
        for account, fields in wanted:
            await ensure_account(database, account)
            limits: Limits = fields.pop("account_limits", NO_LIMITS)
            if limits != NO_LIMITS:
                await directory.accounts.change("test", account, limits.model_dump())
            new = NewKey(account, operator=fields.pop("admin", False), **fields)
            made.append((await directory.keys.create("test", new)).secret)
    await database.close()
    return made
