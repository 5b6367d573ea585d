"""`penstock webhooks`: the commands do the same as the routes."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from core.db.engine import Database
from core.runtime.child_process import free_port
from jobs.store.job_store import JobStore
from tests.integration.api.conftest import MODEL, Keys, RunningApi
from tests.support.processes import ROOT
from tests.support.receiver import receiving
from tests.support.waiting import eventually
from tests.support.webhooks import REACHABLE, deliver, deliveries
from webhooks.deliverer import Deliverer

pytestmark = pytest.mark.settings(webhooks=REACHABLE)


def penstock(api: RunningApi, key: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command as a user does."""
    program = Path(sys.executable).with_name("penstock")
    where = {"PENSTOCK_URL": api.url, "PENSTOCK_KEY": key, "PYTHONPATH": str(ROOT)}
    command = [str(program), "webhooks", *words]
    return subprocess.run(
        command, env=os.environ | where, capture_output=True, text=True, timeout=60, check=False
    )


async def test_the_commands_make_list_test_and_repeat(
    api: RunningApi, keys: Keys, database: Database, deliverer: Deliverer
) -> None:
    def run(*words: str) -> str:
        result = penstock(api, keys.acme, *words)
        assert result.returncode == 0, result.stderr
        return result.stdout

    async with receiving(500, 200) as receiver:
        made = json.loads(run("create", receiver.url, "--event", "job.failed", "--json"))
        delivery = run("test", made["id"]).strip()
        await deliver(deliverer, database)
        assert "failing for" in run("list")
        assert "answered 500" in run("deliveries", made["id"], "--state", "pending")
        run("redeliver", delivery)
        await deliver(deliverer, database)
        assert receiver.got[1].verify(made["secret"])["type"] == "webhook.test"
        listed = json.loads(run("deliveries", "--json"))
        assert [one["state"] for one in listed["data"]] == ["delivered"]
        run("remove", made["id"])
    assert not json.loads(run("list", "--json"))["data"]


async def test_a_command_says_what_was_refused(api: RunningApi, keys: Keys) -> None:
    refused = penstock(api, keys.acme, "create", "https://10.0.0.1/")
    assert refused.returncode == 1
    assert "expected an address on the public internet" in refused.stderr


async def test_the_commands_and_the_receiver_of_the_documentation_run(
    api: RunningApi, keys: Keys, store: JobStore, database: Database, deliverer: Deliverer
) -> None:
    page = (ROOT / "docs" / "api.md").read_text()
    sections = re.split(r"^## ", page, flags=re.MULTILINE)
    own = "".join(one for one in sections if one.startswith(("#", "Webhooks\n")))
    port = free_port()
    own = own.replace("127.0.0.1:9000", f"127.0.0.1:{port}").replace(", 9000)", f", {port})")
    blocks = re.findall(r"^```sh\n(.*?)^```", own, re.MULTILINE | re.DOTALL)
    (code,) = re.findall(r"^```python\n(.*?)^```", own, re.MULTILINE | re.DOTALL)
    given = os.environ | {"URL": api.url, "KEY": keys.acme, "MODEL": MODEL}
    script = "set -euo pipefail\n" + "\n".join(blocks) + '\necho "SECRET=$SECRET"'
    done = await asyncio.to_thread(
        lambda: subprocess.run(
            ["bash", "-c", script], env=given, capture_output=True, text=True, check=False
        )
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"code":' not in done.stdout, done.stdout
    (secret,) = re.findall(r"^SECRET=(whsec_.+)$", done.stdout, re.MULTILINE)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", code),
        env=given | {"SECRET": secret},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:

        async def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        await eventually(listens, 20)
        await deliver(deliverer, database)
        assert process.stdout is not None
        async with asyncio.timeout(20):
            printed = (await process.stdout.readline()).decode()
        assert re.fullmatch(r"evt_\w+ webhook\.test whe_\w+\n", printed)
        (row,) = await deliveries(database)
        assert (row.state, row.attempts) == ("delivered", 1)
    finally:
        process.kill()
        await process.wait()
