"""OpenAI's Node client: the same calls as its Python client, in one process of Node."""

import os
import re
import subprocess
from pathlib import Path

import orjson
import pytest

from accounts.caller import Limits, Role
from tests.clients.conftest import EMBEDDER, Service
from tests.support.programs import program
from tests.support.simulated import MODEL

HERE = Path(__file__).parent / "node"
NAMES = re.findall(r'^  async "(.*)"\(\) \{$', (HERE / "cases.mjs").read_text(), re.MULTILINE)

Results = dict[str, str | None]


def run(*command: str, **env: str) -> str:
    """Run a command where the cases are; fails with what it printed."""
    done = subprocess.run(
        [program(command[0]), *command[1:]],
        cwd=HERE,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def results(service: Service) -> Results:
    """Run all cases once."""
    installed = HERE / "node_modules" / ".package-lock.json"
    if not installed.exists():
        run("npm", "ci", "--no-audit", "--no-fund")
    printed = run(
        "node",
        "cases.mjs",
        PENSTOCK_URL=service.url,
        PENSTOCK_MODEL=MODEL,
        PENSTOCK_EMBEDDER=EMBEDDER,
        PENSTOCK_KEY=service.key,
        PENSTOCK_VIEWER=service.new_key("acme", role=Role.VIEWER),
        PENSTOCK_LIMITED=service.new_key("node-limited", limits=Limits(requests_per_minute=60)),
        PENSTOCK_FAILING=service.new_key("node-failing"),
        PENSTOCK_LEAVING=service.new_key("node-leaving"),
    )
    lines = [orjson.loads(line) for line in printed.splitlines()]
    return {line["name"]: line["error"] for line in lines}


@pytest.mark.parametrize("name", NAMES)
def test_node(results: Results, name: str) -> None:
    assert results[name] is None, results[name]


def test_every_case_ran(results: Results) -> None:
    assert NAMES
    assert sorted(results) == sorted(NAMES)
