"""`penstock up` as a supervisor: what it refuses, restarts, ends and leaves behind."""

import json
import os
import re
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from tests.e2e.running import (
    READY,
    SIMULATED,
    START_SECONDS,
    Up,
    penstock,
    processes_in,
)
from tests.support.waiting import eventually

pytestmark = pytest.mark.timeout(300)

PROCESSES = ("redis", "control", "ledger", "deliverer", "feeder", "api", "worker")


@pytest.fixture
async def up(tmp_path: Path) -> AsyncIterator[Up]:
    running = Up(tmp_path)
    try:
        await eventually(lambda: running.says(READY), START_SECONDS)
        yield running
    finally:
        running.stop()


def gone(*pids: int) -> bool:
    """Return whether these processes have ended."""
    return not any(
        psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        for pid in pids
    )


def test_taken_port_is_named_with_its_setting_and_nothing_is_started(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        result = penstock(tmp_path, "up", env={**SIMULATED, "PENSTOCK_API__PORT": port})

    assert result.returncode == 1
    assert f"port {port} is taken" in result.stderr
    assert "PENSTOCK_API__PORT" in result.stderr
    assert processes_in(tmp_path) == []


@pytest.mark.slow
def test_redis_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    env = {**SIMULATED, "PENSTOCK_REDIS__URL": "redis://:secret@127.0.0.1:1/0"}

    result = penstock(tmp_path, "up", env=env)

    assert result.returncode == 3
    assert "no Redis answers at 127.0.0.1:1" in result.stderr
    assert "secret" not in result.stdout + result.stderr


@pytest.mark.slow
async def test_commands_work_against_it_and_sigterm_ends_everything(up: Up) -> None:
    directory = up.directory
    second = penstock(directory, "up")
    assert second.returncode == 1
    assert up.state["url"] in second.stderr
    assert str(up.process.pid) in second.stderr

    streamed = penstock(directory, "jobs", "submit", "hello", "--max-tokens", "5", "--stream")
    assert streamed.returncode == 0
    assert len(streamed.stdout.split()) == 5
    assert "5 out" in streamed.stderr

    job_id = penstock(directory, "jobs", "submit", "hello", "--max-tokens", "3").stdout.strip()
    assert re.fullmatch(r"job_\w+", job_id)
    job = json.loads(penstock(directory, "jobs", "get", job_id, "--wait", "--json").stdout)
    assert job["status"] == "completed"
    assert job["usage"]["output_tokens"] == 3
    assert penstock(directory, "jobs", "retry", job_id).returncode == 1
    assert "penstock-tiny" in penstock(directory, "models").stdout
    assert "closed" in penstock(directory, "workers").stdout
    assert "No dead-letter jobs" in penstock(directory, "dead", "list").stderr

    children = [up.child(name) for name in PROCESSES]
    assert up.stop(signal.SIGTERM) == 0
    assert gone(*children)
    assert processes_in(directory) == []
    assert not (directory / ".penstock/state.json").exists()


@pytest.mark.slow
async def test_killed_worker_is_started_again_and_its_job_completes(up: Up) -> None:
    worker = up.child("worker")
    submitted = penstock(up.directory, "jobs", "submit", "hello", "--max-tokens", "400")
    job_id = submitted.stdout.strip()

    os.kill(worker, signal.SIGKILL)

    done = penstock(up.directory, "jobs", "get", job_id, "--wait", seconds=100)
    assert done.returncode == 0
    assert "400 out" in done.stderr
    assert up.child("worker") != worker
    assert "worker died (signal SIGKILL)" in up.output


@pytest.mark.slow
async def test_dead_redis_ends_everything_and_shows_its_log(up: Up) -> None:
    os.kill(up.child("redis"), signal.SIGKILL)

    assert up.process.wait(60) == 1
    assert "redis died (signal SIGKILL)" in up.output
    assert "Ready to accept connections" in up.output
    assert processes_in(up.directory) == []


@pytest.mark.slow
async def test_no_process_outlives_a_killed_up(up: Up) -> None:
    children = [up.child(name) for name in PROCESSES]

    up.process.kill()

    async def all_gone() -> bool:
        return gone(*children)

    await eventually(all_gone, 30)
    assert processes_in(up.directory) == []
