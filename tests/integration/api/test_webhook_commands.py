"""`penstock webhooks`: the commands do the same as the routes."""

import asyncio
import json
import re
import sys
from pathlib import Path

import pytest

from core.db.database import Database
from core.runtime.child_process import connects, free_port
from jobs.store.job_store import JobStore
from tests.integration.api.conftest import MODEL, Keys, RunningApi
from tests.support.commands import Done, bash, page_commands, penstock, started
from tests.support.environment import inherited
from tests.support.receiver import receiving
from tests.support.waiting import eventually
from tests.support.webhooks import REACHABLE, deliver, deliveries
from webhooks.deliverer import Deliverer

pytestmark = pytest.mark.settings(webhooks=REACHABLE)


def webhooks(api: RunningApi, key: str, *words: str) -> Done:
    """Run a `penstock webhooks` command as a user does."""
    env = inherited() | {"PENSTOCK_URL": api.url, "PENSTOCK_KEY": key}
    return penstock("webhooks", *words, env=env)


async def test_the_commands_make_list_test_and_repeat(
    api: RunningApi, keys: Keys, database: Database, deliverer: Deliverer
) -> None:
    def run(*words: str) -> str:
        result = webhooks(api, keys.acme, *words)
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
    refused = webhooks(api, keys.acme, "create", "https://10.0.0.1/")
    assert refused.returncode == 1
    assert "expected an address on the public internet" in refused.stderr


async def test_the_commands_and_the_receiver_of_the_documentation_run(
    api: RunningApi,
    keys: Keys,
    store: JobStore,
    database: Database,
    deliverer: Deliverer,
    tmp_path: Path,
) -> None:
    port = free_port()
    own = [
        text.replace("127.0.0.1:9000", f"127.0.0.1:{port}").replace(", 9000)", f", {port})")
        for text in (*page_commands("Webhooks"), *page_commands("Webhooks", language="python"))
    ]
    *commands, code = own
    env = inherited() | {"URL": api.url, "KEY": keys.acme, "MODEL": MODEL}
    done = await asyncio.to_thread(bash, *commands, 'echo "SECRET=$SECRET"', env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"code":' not in done.stdout, done.stdout
    (secret,) = re.findall(r"^SECRET=(whsec_.+)$", done.stdout, re.MULTILINE)
    receiver = started([sys.executable, "-c", code], tmp_path / "receiver.log", SECRET=secret)
    try:

        async def listens() -> bool:
            return connects(port)

        async def printed() -> bool:
            shown = r"^evt_\w+ webhook\.test whe_\w+$"
            return re.search(shown, receiver.output(), re.MULTILINE) is not None

        await eventually(listens, 20)
        await deliver(deliverer, database)
        await eventually(printed, 20)
        (row,) = await deliveries(database)
        assert (row.state, row.attempts) == ("delivered", 1)
    finally:
        receiver.stop()
