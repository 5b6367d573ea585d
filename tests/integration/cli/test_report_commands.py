"""`penstock bills reconcile`, `bills margin` and `gpu-rates` as subprocesses."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from billing.months import month_of
from cli.connect.state_dir import PipelineState, StateDir
from core.db.database import Database
from core.settings.billing import DatabaseSettings
from core.settings.tree import Settings
from jobs.store.job_store import JobStore
from tests.conftest import settings_for
from tests.support import commands
from tests.support.commands import Done
from tests.support.drift import plant
from tests.support.ledger import a_price, consuming, end_jobs, until_consumed
from tests.support.months import MONTH, a_past_price, usage_entry, used
from tests.support.processes import environment
from tests.support.redis_server import RedisServer

Run = Callable[..., Coroutine[Any, Any, Done]]


@pytest.fixture
def settings(redis_server: RedisServer, database_settings: DatabaseSettings) -> Settings:
    return settings_for(redis_server, database={"url": database_settings.url})


@pytest.fixture
def penstock(settings: Settings, tmp_path: Path) -> Run:
    """Run one command on the test's Redis and database."""

    def run(words: tuple[str, ...], changed: dict[str, str | None]) -> Done:
        env = {**environment(settings), "COLUMNS": "200", **changed}
        present = {name: value for name, value in env.items() if value is not None}
        return commands.penstock(*words, directory=tmp_path, env=present)

    async def started(*words: str, **changed: str | None) -> Done:
        return await asyncio.to_thread(run, words, changed)

    return started


async def test_reconcile_exits_0_and_says_what_it_compared_and_1_with_what_differs(
    store: JobStore, database: Database, penstock: Run
) -> None:
    month = month_of(datetime.now(UTC))
    await a_price(database)
    job_id, *_ = await end_jobs(store, 3)
    async with consuming(store, database):
        await until_consumed(store)

    clean = await penstock("bills", "reconcile", "--month", month)
    assert clean.returncode == 0, clean.stderr
    assert f"{month}: no differences." in clean.stderr
    assert "3 logs, 3 live jobs" in clean.stderr

    change = "UPDATE usage_events SET output_amount = output_amount * 2 WHERE job_id = :id"
    await plant(database, change, id=job_id)
    drifted = await penstock("bills", "reconcile", "--month", month)
    assert drifted.returncode == 1
    assert job_id in drifted.stdout
    assert "0.0000003" in drifted.stdout
    assert "1 price" in drifted.stderr

    answer = await penstock("bills", "reconcile", "--month", month, "--json")
    assert answer.returncode == 1
    found = json.loads(answer.stdout)
    assert (found["clean"], found["differences"]["price"]) == (False, 1)
    assert found["compared"]["ledger rows"] == 3
    assert found["listed"][0] == {
        "kind": "price",
        "subject": job_id,
        "what": "output_amount",
        "expected": "0.0000003",
        "found": "0.0000006",
    }


async def test_reconcile_takes_the_redis_that_runs_in_this_directory(
    store: JobStore, settings: Settings, penstock: Run, tmp_path: Path
) -> None:
    await end_jobs(store, 2)
    address = urlsplit(settings.redis.url.get_secret_value()).netloc
    StateDir(tmp_path / ".penstock").write_state(PipelineState(1, "", "", address, "m", {}))

    month = month_of(datetime.now(UTC))
    found = await penstock("bills", "reconcile", "--month", month, PENSTOCK_REDIS__URL=None)

    assert found.returncode == 0, found.stderr
    assert "2 live jobs" in found.stderr


async def test_reconcile_says_what_it_lacks(penstock: Run) -> None:
    wrong = await penstock("bills", "reconcile", "--month", "2026-13")
    assert wrong.returncode == 2
    assert "2026-11" in wrong.stderr
    away = "redis://127.0.0.1:1/0"
    no_redis = await penstock("bills", "reconcile", "--month", MONTH, PENSTOCK_REDIS__URL=away)
    assert no_redis.returncode == 3
    assert "Redis does not answer" in no_redis.stderr
    nowhere = "postgresql+psycopg://nobody@/none?host=/nonexistent"
    no_sql = await penstock("bills", "reconcile", "--month", MONTH, PENSTOCK_DATABASE__URL=nowhere)
    assert no_sql.returncode == 3


async def test_margin_from_a_rate_that_was_set(database: Database, penstock: Run) -> None:
    await a_past_price(database)
    await used(database, usage_entry(run_ms=36_000))
    bare = await penstock("bills", "margin", "--month", MONTH)
    assert bare.returncode == 0
    assert "no GPU rate" in bare.stderr

    rate = ("--per-hour", "2.50", "--slots", "8", "--gpu", "H200", "--from", "2026-01-01T00:00Z")
    made = await penstock("gpu-rates", "set", "m", *rate)
    assert made.returncode == 0, made.stderr
    (listed,) = json.loads((await penstock("gpu-rates", "list", "--json")).stdout)
    assert (listed["gpu"], listed["per_hour"], listed["slots"]) == ("H200", "2.5", 8)

    (model,) = json.loads((await penstock("bills", "margin", "--month", MONTH, "--json")).stdout)[
        "models"
    ]
    assert (model["gpu_seconds"], model["cost"], model["margin"]) == ("36", "0.025", "-0.02468")
    shown = await penstock("bills", "margin", "--month", MONTH, "--gpu-hours", "m=0.5")
    assert "1.25 USD" in shown.stdout


@pytest.mark.parametrize("text", ["m", "=1", "m=many", "m=-1"])
async def test_paid_hours_that_cannot_be_are_a_usage_error(penstock: Run, text: str) -> None:
    answer = await penstock("bills", "margin", "--month", MONTH, "--gpu-hours", text)
    assert answer.returncode == 2
