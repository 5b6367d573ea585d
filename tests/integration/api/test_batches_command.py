"""`penstock batches` against a real API: create, watch, list, fetch, and error messages."""

import asyncio
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from core.settings.tree import Settings
from jobs.store.job_store import JobStore
from tests.integration.api.conftest import MODEL, Keys, RunningApi
from tests.support.batches import answering_all, feeding, line, lines
from tests.support.commands import bash, page_commands
from tests.support.environment import inherited

pytestmark = pytest.mark.settings(batches__look_seconds=0.05, batches__flush_seconds=0.1)


async def penstock(api: RunningApi, keys: Keys, *words: str) -> Result:
    env = {"PENSTOCK_URL": api.url, "PENSTOCK_KEY": keys.acme}
    runner = CliRunner(env=env)
    arguments = ["batches", *words]
    return await asyncio.to_thread(runner.invoke, app, arguments, prog_name="penstock")


async def test_a_batch_is_created_watched_and_fetched(
    api: RunningApi, keys: Keys, settings: Settings, store: JobStore, tmp_path: Path
) -> None:
    file, fetched = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    file.write_bytes(lines(5, MODEL) + line("bad", MODEL, prompt="please fail"))
    endpoint = ("--endpoint", "/v1/completions")
    async with feeding(settings), answering_all(store, MODEL):
        made = await penstock(api, keys, "create", str(file), *endpoint, "--wait", "--json")
    assert made.exit_code == 0, made.output
    batch = json.loads(made.stdout.splitlines()[-1])
    assert batch["status"] == "completed"
    shown = await penstock(api, keys, "show", batch["id"])
    assert "completed, 5 of 6 done, 1 failed" in shown.output
    listed = await penstock(api, keys, "list")
    assert batch["id"] in listed.output
    printed = await penstock(api, keys, "results", batch["id"])
    ids = {json.loads(raw)["custom_id"] for raw in printed.stdout.splitlines()}
    assert ids == {f"r{number}" for number in range(5)}
    errors = await penstock(api, keys, "results", batch["id"], "--errors")
    assert json.loads(errors.stdout)["custom_id"] == "bad"
    to_file = await penstock(api, keys, "results", batch["id"], "--output", str(fetched))
    assert to_file.exit_code == 0, to_file.output
    assert fetched.read_text() == printed.stdout
    assert not fetched.with_name("out.jsonl.part").exists()


async def test_what_is_wrong_with_a_file_is_said_line_by_line(
    api: RunningApi, keys: Keys, settings: Settings, tmp_path: Path
) -> None:
    file = tmp_path / "in.jsonl"
    file.write_bytes(lines(2, MODEL) + b"{broken\n")
    async with feeding(settings):
        made = await penstock(
            api, keys, "create", str(file), "--endpoint", "/v1/completions", "--wait"
        )
    assert made.exit_code == 1
    assert "line 3: The line is not valid JSON" in made.output
    batch_id = json.loads((await penstock(api, keys, "list", "--json")).stdout)["data"][0]["id"]
    cancelled = await penstock(api, keys, "cancel", batch_id)
    assert cancelled.exit_code == 1
    assert "cannot be cancelled" in cancelled.output
    nothing = await penstock(api, keys, "results", batch_id)
    assert nothing.exit_code == 1
    assert "no results" in nothing.output


async def test_a_file_that_is_not_there_is_wrong_usage(
    api: RunningApi, keys: Keys, tmp_path: Path
) -> None:
    missing = await penstock(api, keys, "create", str(tmp_path / "none.jsonl"))
    assert missing.exit_code == 2
    assert "cannot be read" in missing.output


async def test_the_commands_of_the_documentation_run(
    api: RunningApi, keys: Keys, settings: Settings, store: JobStore, tmp_path: Path
) -> None:
    commands = page_commands("Files and batches")
    assert len(commands) == 2
    env = inherited() | {"URL": api.url, "KEY": keys.acme, "MODEL": MODEL}
    async with feeding(settings), answering_all(store, MODEL):
        done = await asyncio.to_thread(bash, *commands, directory=tmp_path, env=env)
    printed = done.stdout + done.stderr
    assert done.returncode == 0, printed
    assert '"request_counts":{"total":3,"completed":3,"failed":0}' in printed
    assert printed.count('"status_code":200') == 3
    assert '"deleted":true' in printed
    assert '"error":{' not in printed
