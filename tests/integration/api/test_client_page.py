"""The code of docs/client.md runs unchanged against a real API."""

import asyncio
import re
import sys
from datetime import UTC, datetime

import pytest

from core.settings.tree import Settings
from jobs.store.job_store import JobStore
from tests.integration.api.conftest import MODEL, Keys, RunningApi
from tests.support.batches import answering_all, feeding
from tests.support.commands import run
from tests.support.environment import inherited
from tests.support.processes import ROOT
from webhooks.signing import new_secret, sign

pytestmark = pytest.mark.settings(batches__look_seconds=0.05, batches__flush_seconds=0.1)
DELIVERY = '{"type": "job.completed", "data": {"id": "job_1"}}'


def page_code() -> str:
    """Return all Python of the page as one program, and two deliveries for its receiver."""
    page = (ROOT / "docs/client.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    secret = new_secret()
    headers = sign("evt_1", datetime.now(UTC), DELIVERY, [secret])
    deliveries = [
        f"print('receive', receive({body!r}, {headers!r}, {secret!r}))"
        for body in (DELIVERY, DELIVERY + " ")
    ]
    return "\n".join((f"MODEL = {MODEL!r}", *blocks, *deliveries))


async def test_the_code_of_the_page_runs_and_prints_what_it_says(
    api: RunningApi, keys: Keys, settings: Settings, store: JobStore
) -> None:
    env = inherited() | {"PENSTOCK_URL": api.url, "PENSTOCK_API_KEY": keys.acme}
    async with feeding(settings), answering_all(store, MODEL):
        command = [sys.executable, "-W", "error", "-c", page_code()]
        done = await asyncio.to_thread(run, command, directory=ROOT, env=env)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("completed echo What is a turbine?"), done.stdout
    assert "422 invalid-job body.temperature" in lines
    assert sum(line.endswith(" True 200") for line in lines) == 3
    assert "['completed', 'completed', 'completed']" in lines
    assert lines[-3:] == ["job.completed job_1", "receive 204", "receive 400"]
