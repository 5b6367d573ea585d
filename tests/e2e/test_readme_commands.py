"""The README's first command: a real model streams a first job, and nothing is left behind."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.e2e.running import (
    READY,
    START_SECONDS,
    Up,
    environment,
    path_without_redis,
    penstock,
    processes_in,
)
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]


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
        assert "shown this once" not in up.output
    finally:
        up.stop()
