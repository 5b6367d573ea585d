"""`penstock doctor` on working and broken servers: output and exit codes."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import make_url

from cli.checks.servers import check_database, check_redis
from core.db.schema_version import downgrade, upgrade
from core.runtime.child_process import free_port
from core.settings.billing import DatabaseSettings
from core.settings.redis import RedisSettings
from tests.conftest import on_sqlite
from tests.e2e.running import SIMULATED, processes_in
from tests.support.commands import penstock
from tests.support.environment import inherited
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually
from tests.support.wall_clock import WallClock


@pytest.fixture(params=["redis", "valkey"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own, with an append-only file."""
    own = RedisServer(request.param, tmp_path / "data", aof=True, maxmemory="100mb")
    own.start()
    yield own
    own.stop()


#: A test must not depend on the ports that are taken on this machine.
ANY_PORTS = {"PENSTOCK_API__PORT": "0", "PENSTOCK_WORKER__HEALTH_PORT": "0"}


class Doctor:
    """What one run of the command said."""

    def __init__(self, directory: Path, *words: str, **env: str) -> None:
        simulated = {"PENSTOCK_ENGINE__KIND": "simulated"}
        every = {**inherited(), **ANY_PORTS, **simulated, **env}
        done = penstock("doctor", "--json", *words, directory=directory, env=every)
        self.text = done.stdout + done.stderr
        self.code = done.returncode
        assert "Traceback" not in self.text
        self.said: dict[str, Any] = json.loads(done.stdout)

    def __getitem__(self, name: str) -> dict[str, Any]:
        found = [one for one in self.said["checks"] if one["name"] == name]
        assert len(found) == 1, self.text
        return dict(found[0])


def levels(settings: RedisSettings) -> dict[str, str]:
    return {one.name: one.level.value for one in check_redis(settings)}


def of(server: RedisServer) -> RedisSettings:
    return RedisSettings(url=server.url)


def test_nothing_is_asked_and_nothing_is_made_where_no_server_is_named(tmp_path: Path) -> None:
    doctor = Doctor(tmp_path)

    assert doctor.code == 0
    assert doctor.said["ok"] is True
    assert "`penstock up` starts" in doctor["redis"]["text"]
    assert "`penstock up` creates" in doctor["sql"]["text"]
    assert list(tmp_path.iterdir()) == []


def test_whole_servers_are_fine(
    tmp_path: Path, server: RedisServer, database_settings: DatabaseSettings
) -> None:
    database = database_settings.url.get_secret_value()

    doctor = Doctor(tmp_path, PENSTOCK_REDIS__URL=server.url, PENSTOCK_DATABASE__URL=database)

    assert doctor.code == 0, doctor.text
    for name in ("redis", "redis eviction", "redis durability", "redis memory", "redis clock"):
        assert doctor[name]["level"] == "ok", doctor.text
    assert ("Valkey 9" if server.kind == "valkey" else "Redis 7") in doctor["redis"]["text"]
    assert "appendfsync always" in doctor["redis durability"]["text"]
    assert doctor["sql"]["level"] == doctor["tables"]["level"] == "ok"
    if not database.startswith("sqlite"):
        assert doctor["sql clock"]["level"] == "ok"


def test_a_redis_that_does_not_answer_is_a_problem_without_its_password(tmp_path: Path) -> None:
    doctor = Doctor(tmp_path, PENSTOCK_REDIS__URL=f"redis://:sesame@127.0.0.1:{free_port()}/0")

    assert doctor.code == 1
    assert doctor["redis"]["level"] == "problem"
    assert "PENSTOCK_REDIS__URL" in doctor["redis"]["advice"][0]
    assert "sesame" not in doctor.text


def test_a_wrong_password_is_said(server: RedisServer) -> None:
    redis.Redis.from_url(server.url).config_set("requirepass", "sesame")

    (found,) = check_redis(of(server))

    assert found.level.value == "problem"
    assert "Authentication required" in found.text


def test_settings_of_redis_that_lose_jobs_are_named(server: RedisServer, tmp_path: Path) -> None:
    client = redis.Redis.from_url(server.url)
    client.config_set("maxmemory-policy", "allkeys-lru")

    doctor = Doctor(tmp_path, PENSTOCK_REDIS__URL=server.url)
    assert doctor.code == 1
    assert doctor["redis eviction"]["level"] == "problem"
    assert "noeviction" in doctor["redis eviction"]["advice"][0]

    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("appendfsync", "no")
    assert levels(of(server))["redis durability"] == "warning"
    client.config_set("appendonly", "no")
    doctor = Doctor(tmp_path, PENSTOCK_REDIS__URL=server.url)
    assert doctor.code == 0
    assert (doctor.said["warnings"], doctor.said["problems"]) == (1, 0)
    assert "appendonly" in doctor["redis durability"]["text"]


def test_up_refuses_a_named_redis_that_would_evict_jobs(
    server: RedisServer, tmp_path: Path
) -> None:
    redis.Redis.from_url(server.url).config_set("maxmemory-policy", "allkeys-lru")
    directory = tmp_path / "run"
    directory.mkdir()

    result = penstock(
        "up", directory=directory, env={**SIMULATED, "PENSTOCK_REDIS__URL": server.url}
    )

    assert result.returncode == 1, result.stdout + result.stderr
    assert "maxmemory-policy is allkeys-lru: a full Redis would drop jobs" in result.stderr
    assert "CONFIG SET maxmemory-policy noeviction" in result.stderr
    assert processes_in(directory) == []
    assert not (directory / ".penstock" / "state.json").exists()


def test_a_full_redis_and_a_replica_are_problems(server: RedisServer) -> None:
    client = redis.Redis.from_url(server.url)
    client.setrange("anything", 20_000_000, "x")  # a small command: no large query buffer
    used = int(client.info("memory")["used_memory"])
    client.config_set("maxmemory", int(used * 1.1))
    assert levels(of(server))["redis memory"] == "warning"
    client.config_set("maxmemory", used // 2)
    assert levels(of(server))["redis memory"] == "problem"
    client.config_set("maxmemory", 0)
    assert levels(of(server))["redis memory"] == "ok"

    client.replicaof("127.0.0.1", str(free_port()))
    assert levels(of(server))["redis"] == "problem"


async def test_a_redis_whose_disk_is_full_is_a_problem(server: RedisServer) -> None:
    client = redis.Redis.from_url(server.url)
    client.config_set("appendfsync", "everysec")
    client.set("anything", "x" * 100_000)
    server.limit_files(50_000)
    client.set("anything", "x" * 100_000)

    async def noticed() -> bool:
        found = await asyncio.to_thread(levels, of(server))
        return found.get("redis durability") == "problem"

    await eventually(noticed)


def test_a_redis_that_hides_its_configuration_is_judged_by_what_it_shows(
    server: RedisServer,
) -> None:
    client = redis.Redis.from_url(server.url)
    client.execute_command("ACL", "SETUSER", "some", "on", ">sesame", "~*", "+@all", "-config")
    url = server.url.replace("redis://", "redis://some:sesame@")

    found = {one.name: one for one in check_redis(RedisSettings(url=url))}

    assert found["redis eviction"].level.value == "ok"
    assert "CONFIG is forbidden" in found["redis durability"].text


def test_a_clock_that_is_wrong_is_seen_on_redis_and_on_postgresql(
    tmp_path: Path, redis_server: RedisServer, postgres_template: str, postgres_url: str
) -> None:
    url = make_url(postgres_url).set(database=postgres_template)
    database = url.render_as_string(hide_password=False)
    clock = WallClock(tmp_path)
    env = {"PENSTOCK_REDIS__URL": redis_server.url, "PENSTOCK_DATABASE__URL": database}

    clock.move(10)
    doctor = Doctor(tmp_path, **env, **clock.environment())
    for name in ("redis clock", "sql clock"):
        assert doctor[name]["level"] == "warning", doctor.text
        assert "s behind this machine's" in doctor[name]["text"]

    clock.move(-100)
    doctor = Doctor(tmp_path, **env, **clock.environment())
    assert doctor.code == 1
    for name in ("redis clock", "sql clock"):
        assert doctor[name]["level"] == "problem", doctor.text
        assert "s ahead of this machine's" in doctor[name]["text"]


def test_tables_that_are_missing_or_old_are_a_problem(empty_database: DatabaseSettings) -> None:
    def tables() -> tuple[str, str]:
        upgraded = {one.name: one for one in check_database(empty_database)}["tables"]
        assert upgraded.level.value == "ok" or "penstock db upgrade" in upgraded.advice[0]
        return upgraded.level.value, upgraded.text

    upgrade(empty_database)
    assert tables()[0] == "ok"
    downgrade(empty_database, "-1")
    level, text = tables()
    assert level == "problem"
    assert "this program needs" in text
    downgrade(empty_database)
    assert tables() == ("problem", "there are no tables yet")


def test_a_database_that_is_none_or_does_not_answer_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "penstock.db").write_text("this is no database, whatever its name says")
    (found,) = check_database(on_sqlite(tmp_path / "penstock.db"))
    assert found.level.value == "problem"
    assert "not a database" in found.text

    away = f"postgresql+psycopg://penstock:sesame@127.0.0.1:{free_port()}/penstock"
    doctor = Doctor(tmp_path, PENSTOCK_DATABASE__URL=away)
    assert doctor.code == 1
    assert doctor["sql"]["level"] == "problem"
    assert "sesame" not in doctor.text


def test_a_newer_database_is_a_warning(tmp_path: Path, sqlite_template: Path) -> None:
    import sqlite3

    file = tmp_path / "penstock.db"
    shutil.copy(sqlite_template, file)
    with sqlite3.connect(file) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'of-tomorrow'")
    connection.close()

    found = {one.name: one.level.value for one in check_database(on_sqlite(file))}

    assert found == {"sql": "ok", "tables": "warning"}


def test_wrong_settings_are_all_named_and_the_rest_is_checked(tmp_path: Path) -> None:
    doctor = Doctor(tmp_path, PENSTOCK_API__PORT="99999", PENSTOCK_ENGINE__SLOTS="many")

    assert doctor.code == 1
    said = " ".join(doctor["settings"]["advice"])
    assert "PENSTOCK_API__PORT" in said
    assert "PENSTOCK_ENGINE__SLOTS" in said
    assert doctor["python"]["level"] == "ok"


def test_quick_asks_no_server(tmp_path: Path) -> None:
    away = f"redis://127.0.0.1:{free_port()}/0"

    doctor = Doctor(tmp_path, "--quick", PENSTOCK_REDIS__URL=away)

    assert doctor.code == 0, doctor.text
    assert "sql" not in [one["name"] for one in doctor.said["checks"]]


def test_in_a_container_only_what_its_process_needs_is_looked_at(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    env = {"PENSTOCK_ENGINE__MODEL": "./nothing", "PENSTOCK_ENGINE__KIND": "vllm"}

    doctor = Doctor(tmp_path, "--servers", PENSTOCK_REDIS__URL=redis_server.url, **env)

    assert doctor.code == 0, doctor.text
    assert doctor["redis"]["level"] == "ok"
    names = {one["name"] for one in doctor.said["checks"]}
    assert names.isdisjoint({"model", "ports", "vllm", "memory"})


def test_people_get_a_line_for_each_check_and_what_to_do(tmp_path: Path) -> None:
    env = {**inherited(), **ANY_PORTS, "PENSTOCK_ENGINE__MODEL": "./nothing"}
    done = penstock("doctor", "--quick", directory=tmp_path, env=env)

    assert done.returncode == 1
    lines = done.stdout.splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("problem  model"))
    assert "there is no model at ./nothing" in lines[at]
    assert lines[at + 1].strip().startswith("PENSTOCK_ENGINE__MODEL takes")
    assert lines[-1].startswith("1 problem")
