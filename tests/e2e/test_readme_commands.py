"""The README's commands: a real model streams a first job, and the next ones run as they stand."""

import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from billing.months import bounds, month_of
from tests.e2e.running import (
    READY,
    SIMULATED,
    START_SECONDS,
    Up,
    environment,
    path_without_redis,
    penstock,
    processes_in,
)
from tests.support.commands import Done, bash, page_commands
from tests.support.processes import ROOT
from tests.support.waiting import eventually

MULTILINE = re.MULTILINE | re.DOTALL


def test_make_run_is_install_and_up_with_a_demo() -> None:
    command = ["make", "--dry-run", "--no-print-directory", "run", "ARGS=--exit"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    assert "scripts/install.py" in said
    assert ".venv/bin/penstock up --demo --exit" in said


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_first_run_streams_an_answer_leaves_nothing_and_the_next_one_has_its_jobs(
    tmp_path: Path,
) -> None:
    env = environment(PATH=path_without_redis(tmp_path / "bin"))

    first = penstock(tmp_path, "up", "--demo", "--exit", env=env, seconds=300)

    assert first.returncode == 0, first.stdout + first.stderr
    for said in (
        "valkey-server on 127.0.0.1",
        "penstock-tiny is loaded and warm",
        "Development key, shown this once: pk_",
        "202 Accepted: job_",
        "tokens so far",
        "as the ledger says",
        "csv-preliminary/usage.csv",
        "pdf-preliminary/PRELIMINARY-",
    ):
        assert said in first.stdout
    endings = re.findall(r"completed · (\d+) tokens in, (\d+) out", first.stdout)
    assert [int(out) for _, out in endings] == [96, 96]
    streamed = re.search(r"/stream\s+(.+?)\s+completed · ", first.stdout, re.DOTALL)
    assert streamed is not None
    assert len(streamed[1].split()) > 20
    assert processes_in(tmp_path) == []

    # The next start may find another Redis on the PATH; it reads the same data.
    up = Up(tmp_path)
    try:
        await eventually(lambda: up.says(READY), START_SECONDS)
        listed = penstock(tmp_path, "jobs", "list")
        for job_id in re.findall(r"202 Accepted: (job_\w+)", first.stdout):
            assert re.search(rf"{job_id}\s+completed", listed.stdout)
        assert "shown this once" not in up.output()
    finally:
        up.stop()


def blocks(url: str) -> list[str]:
    """Return the commands of "Using it" with this address, and the months of today's."""
    month = month_of(datetime.now(UTC))
    text = (ROOT / "README.md").read_text().partition("## Using it\n")[2].partition("\n## ")[0]
    before = month_of(bounds(month)[0] - timedelta(days=1))
    text = text.replace("2026-11", month).replace("2026-10", before)
    return re.findall(r"^```\n(.*?)^```", text.replace("localhost:8080", url), MULTILINE)


def in_bash(directory: Path, *commands: str, **more: str) -> Done:
    """Run commands up to the first that fails, with `.venv/bin` on the PATH."""
    path = f"{directory}/.venv/bin{os.pathsep}{os.environ['PATH']}"
    return bash(*commands, directory=directory, env={**SIMULATED, "PATH": path, **more})


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_the_commands_under_using_it_run_and_say_what_is_shown(tmp_path: Path) -> None:
    """As they stand there, but for address and months; the engine is the simulated one."""
    (tmp_path / ".venv").symlink_to(sys.prefix)
    up = Up(tmp_path)
    try:
        await eventually(lambda: up.says(READY), START_SECONDS)
        use, bill = blocks(up.state["url"].removeprefix("http://"))
        commands = [line for line in bill.splitlines() if line.startswith("penstock ")]
        shown = bill.partition(commands[-1])[2].split()
        submit = '.venv/bin/penstock jobs submit "What is a penstock?" --stream'
        assert f"`{submit}`" in (ROOT / "README.md").read_text()
        assert len(commands) == 5
        done = in_bash(tmp_path, use, submit, *commands[:-1])
        assert done.returncode == 0, done.stdout + done.stderr
        assert '"status":"completed"' in done.stdout
        assert [done.stdout.count(f"\nid: {number}\n") for number in (2, 3)] == [1, 2]

        async def no_differences() -> bool:
            said = penstock(tmp_path, *commands[-1].partition("#")[0].split()[1:])
            return (said.returncode, said.stdout.split() + said.stderr.split()) == (0, shown)

        await eventually(no_differences, 30)
        done = in_bash(tmp_path, *page_commands("Limits"), URL=up.state["url"])
        assert done.returncode == 0, done.stdout + done.stderr
        assert re.findall(r"HTTP/1.1 (\d+)", done.stdout) == ["200", "200", "429"]
        assert 'ratelimit-policy: "key-requests";q=2;w=60, "key-tokens";q=5000;w=60' in done.stdout
        assert re.findall(r"^penstock-tiny +(\w+)", done.stdout, re.MULTILINE) == [
            "paused",
            "paused",
            "open",
        ]
    finally:
        up.stop()
