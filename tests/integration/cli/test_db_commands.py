"""`penstock db` and `penstock prices` as subprocesses."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import text

from core.db.database import WRITES
from core.db.schema_version import alembic_config, migration_engine
from core.settings.billing import DatabaseSettings
from tests.support import commands
from tests.support.commands import Done
from tests.support.environment import inherited

Run = Callable[..., Done]


@pytest.fixture
def penstock(empty_database: DatabaseSettings, tmp_path: Path) -> Run:
    """Run one command on an empty database."""
    url = empty_database.url.get_secret_value()

    def run(*words: str) -> Done:
        env = {**inherited(), "PENSTOCK_DATABASE__URL": url, "COLUMNS": "200"}
        return commands.penstock(*words, directory=tmp_path, env=env)

    return run


def test_a_container_waits_for_the_tables_it_needs_and_accepts_newer_ones(
    penstock: Run, empty_database: DatabaseSettings
) -> None:
    early = penstock("db", "wait", "--seconds", "0")
    assert early.returncode == 1
    assert "penstock db upgrade" in early.stderr
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(penstock, "db", "wait", "--seconds", "60")
        assert penstock("db", "upgrade").returncode == 0
        assert waiting.result().returncode == 0

    _, previous, *_ = ScriptDirectory.from_config(alembic_config(empty_database)).walk_revisions()
    stamp(empty_database, previous.revision)
    assert penstock("db", "wait", "--seconds", "0").returncode == 1, "older ones will not do"
    stamp(empty_database, "of_a_later_program")
    assert penstock("db", "wait", "--seconds", "0").returncode == 0


def stamp(settings: DatabaseSettings, revision: str) -> None:
    engine = migration_engine(settings)
    with engine.connect() as connection:
        connection.execution_options(**{WRITES: True})
        connection.execute(
            text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision}
        )
        connection.commit()
    engine.dispose()


def test_from_an_empty_database_to_a_listed_price(penstock: Run) -> None:
    behind = penstock("db", "status")
    assert behind.returncode == 1
    assert "penstock db upgrade" in behind.stderr
    early = penstock("prices", "list")
    assert early.returncode == 3
    assert "penstock db upgrade creates its tables" in early.stderr

    assert "from nothing to" in penstock("db", "upgrade").stdout
    assert "already" in penstock("db", "upgrade").stdout
    assert penstock("db", "status").returncode == 0

    made = penstock("prices", "set", "m", "--input", "0.20", "--output", "0.30")
    assert made.returncode == 0, made.stderr
    (price,) = json.loads(penstock("prices", "list", "--json").stdout)
    assert price["id"] == made.stdout.strip()
    assert (price["input"], price["cached_input"], price["output"]) == ("0.2", "0.2", "0.3")
    assert (price["priority"], price["flex"]) == ("1.5", "0.5")
    assert penstock("prices", "rate").stdout == "0 rated, 0 still without a price\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--input", "cheap", "--output", "1"), "'cheap' is not a number"),
        (("--input", "-1", "--output", "1"), "input: expected a number from 0"),
        (("--input", "1", "--output", "1", "--from", "tomorrow"), "'tomorrow' is not a time"),
        (("--input", "1", "--output", "1", "--from", "2027-01-01"), "has no time zone"),
    ],
)
def test_wrong_words_are_usage_errors(penstock: Run, words: tuple[str, ...], said: str) -> None:
    result = penstock("prices", "set", "m", *words)

    assert result.returncode == 2
    assert said in result.stderr
