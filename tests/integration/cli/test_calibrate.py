"""`penstock calibrate` measures a running worker, and fails with a reason when it cannot."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from planning.profile import read_profile
from tests.conftest import settings_for
from tests.support.keys import make_key, sqlite_in
from tests.support.processes import Pipeline, PipelineProcess, pipeline
from tests.support.redis_server import RedisServer
from tests.support.waiting import eventually

PREFILL, STEP, PER_SEQUENCE, SLOTS = 5_000.0, 0.03, 0.003, 4
ENGINE = {
    "kind": "simulated",
    "served_name": "sim",
    "slots": SLOTS,
    "max_model_len": 1_500,
    "simulated": {
        "prefill_tokens_per_second": PREFILL,
        "step_base_seconds": STEP,
        "step_per_sequence_seconds": PER_SEQUENCE,
    },
}


@asynccontextmanager
async def served(server: RedisServer, directory: Path) -> AsyncIterator[tuple[Pipeline, str, str]]:
    """Run a pipeline; yields it, its URL and a key."""
    settings = settings_for(server, engine=ENGINE, database=sqlite_in(directory))
    with pipeline(settings, directory) as running:
        key = make_key(settings)
        await asyncio.to_thread(running.worker)
        front: PipelineProcess = await asyncio.to_thread(running.api)
        yield running, f"http://127.0.0.1:{front.settings.api.port}", key


async def calibrate(url: str, key: str, *words: str) -> Result:
    given = ["calibrate", "--url", url, "--key", key, "--out", "engine.json", *words]
    return await asyncio.to_thread(CliRunner().invoke, app, given, prog_name="penstock")


@pytest.mark.slow
async def test_known_parameters_are_found_again(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with served(redis_server, tmp_path) as (_, url, key):
        result = await calibrate(
            url, key, "--rounds", "1", "--tokens", "36", "--start-seconds", "45", "--json"
        )
    assert result.exit_code == 0, result.output

    profile = read_profile(tmp_path / "engine.json")

    assert (profile.slots, profile.name, profile.start_seconds) == (SLOTS, "sim", 45)
    assert profile.prefill_tokens_per_second == pytest.approx(PREFILL, rel=0.1)
    # Each step also sleeps a little too long.
    assert profile.step_base_seconds == pytest.approx(STEP, rel=0.1)
    full = STEP + SLOTS * PER_SEQUENCE
    fitted = profile.step_base_seconds + SLOTS * profile.step_per_sequence_seconds
    assert fitted == pytest.approx(full, rel=0.1)
    printed = json.loads(result.stdout)
    assert printed["median_error"] < 0.05
    assert printed["engine"] == profile.model_dump()


@pytest.mark.slow
async def test_worker_that_is_not_alone_or_idle_is_not_measured(
    redis_server: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    body = {"model": "sim", "prompt": "long", "max_tokens": 1_000, "ignore_eos": True}
    async with served(redis_server, tmp_path) as (running, url, key):
        long_context = await calibrate(url, key, "--tokens", "1490")
        client: Any = httpx2.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"})
        async with client:
            job = {"url": "/v1/completions", "body": body}
            assert (await client.post("/v1/jobs", json=job)).status_code == 202
            await seen_running(client)
            busy = await calibrate(url, key)
        await asyncio.to_thread(running.worker)
        two = await calibrate(url, key)
        other = await calibrate(url, key, "--model", "nothing")

    assert (long_context.exit_code, busy.exit_code, two.exit_code) == (2, 1, 1)
    assert "context of 1500 tokens is too short" in long_context.stderr
    assert "busy" in busy.stderr
    assert "2 workers serve sim" in two.stderr
    assert "0 workers serve nothing" in other.stderr
    assert not (tmp_path / "engine.json").exists()


async def seen_running(client: Any) -> None:
    """Wait until the worker's heartbeat says that it runs a job."""

    async def seen() -> bool:
        workers = (await client.get("/circuit-breaker/status")).json()["data"]
        return any(worker["running"] for worker in workers)

    await eventually(seen)
