"""`penstock users`, `accounts` and `keys` on both databases, with their audit log."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from accounts.cache_scripts import open_scripts
from accounts.cache_writer import CallerCacheWriter
from accounts.caller import digest_of
from cli.main import app
from core.db.audit import read_audit_log
from core.db.database import Database
from core.settings.billing import DatabaseSettings
from core.settings.tree import get_settings
from jobs.store.store_factory import open_store
from tests.conftest import settings_for
from tests.support.redis_server import RedisServer

PASSWORD = "correct horse battery"


class Commands:
    """Runs commands on one database and one Redis."""

    def __init__(self, database: DatabaseSettings, redis: RedisServer) -> None:
        self.settings = settings_for(redis, database=database.model_dump(exclude_unset=True))
        self._env = {
            "PENSTOCK_DATABASE__URL": database.url.get_secret_value(),
            "PENSTOCK_REDIS__URL": redis.url,
            "PENSTOCK_REDIS__PREFIX": self.settings.redis.prefix,
            "COLUMNS": "200",
        }

    async def __call__(self, *words: str, stdin: str = "", fails: int = 0) -> str:
        get_settings.cache_clear()
        result = await asyncio.to_thread(
            CliRunner().invoke, app, words, input=stdin, env=self._env, prog_name="penstock"
        )
        assert result.exit_code == fails, (words, result.output)
        return result.stderr if fails else result.stdout

    async def rows(self, *words: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(await self(*words, "--json"))
        return found


@pytest.fixture
def penstock(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    database_settings: DatabaseSettings,
    redis_server: RedisServer,
) -> Commands:
    monkeypatch.chdir(tmp_path)
    return Commands(database_settings, redis_server)


async def test_people_accounts_and_keys_from_the_command_line(penstock: Commands) -> None:
    await penstock("users", "create-admin", "Op@Example.com", stdin=PASSWORD + "\n")
    [operator] = await penstock.rows("users", "list")
    assert (operator["email"], operator["operator"]) == ("op@example.com", True)
    weak = await penstock("users", "create", "ann@example.com", "acme", stdin="short\n", fails=2)
    assert "password" in weak
    await penstock("accounts", "create", "acme", "--name", "Acme")
    await penstock(
        "users", "create", "ann@example.com", "acme", "--role", "viewer", "--no-password"
    )
    await penstock("users", "set-role", "ann@example.com", "billing")
    await penstock("users", "disable", "ann@example.com")
    ann = (await penstock.rows("users", "list", "--account", "acme"))[0]
    assert (ann["role"], ann["has_password"]) == ("billing", False)
    assert ann["disabled_at"] > 0
    last = await penstock("users", "disable", "op@example.com", fails=2)
    assert "last admin" in last

    await penstock("accounts", "limits", "acme", "--max-running", "3")
    made = json.loads(await penstock("keys", "create", "acme", "--route", "jobs", "--json"))
    new = (await penstock("keys", "rotate", made["id"], "--overlap", "60")).strip()
    await penstock("keys", "revoke", made["id"])
    assert "not found" in await penstock("keys", "revoke", f"key_{'0' * 32}", fails=2)
    wrong = await penstock("keys", "create", "acme", "--route", "nowhere", fails=2)
    assert "ROUTES" in wrong
    await penstock("accounts", "suspend", "acme")
    [acme, _] = await penstock.rows("accounts", "list")
    assert acme["suspended_at"] > 0

    store = open_store(penstock.settings)
    cache = CallerCacheWriter(store.redis, store.keys, open_scripts(store.redis, store.keys.prefix))
    old, current = await cache.read([digest_of(made["key"]), digest_of(new)])
    await store.close()
    assert old is None, "what commands change is in Redis when they end"
    assert current is not None
    record = json.loads(current)
    assert (record["suspended"], record["routes"]) == (True, ["jobs"])
    assert record["account_limits"]["max_running"] == 3

    database = Database(penstock.settings.database, "test")
    entries = await read_audit_log(database, None)
    await database.close()
    assert [entry.action for entry in entries][::-1] == [
        *("user_created", "account_created", "user_created", "user_changed", "user_changed"),
        *("account_changed", "key_created", "key_rotated", "key_revoked", "account_changed"),
    ]
    assert PASSWORD not in str([entry.details for entry in entries])
