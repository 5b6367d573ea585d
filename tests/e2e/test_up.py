"""`penstock up` as a supervisor: which starts it refuses, what it restarts and how it stops."""

import json
import os
import re
import signal
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError

from tests.e2e.running import (
    READY,
    SIMULATED,
    START_SECONDS,
    Up,
    environment,
    penstock,
    processes_in,
)
from tests.support.redis_server import RedisServer
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


async def is_private(up: Up) -> None:
    """Check that other users of this machine reach neither the files nor Redis."""
    folder = up.directory / ".penstock"
    open_to_others = [
        str(path)
        for path in (folder, *folder.rglob("*"))
        if stat.S_IMODE(path.stat().st_mode) & 0o077
    ]
    assert open_to_others == []
    assert (folder / "penstock.db").exists()
    assert list(folder.glob("redis/appendonlydir/*.aof"))
    secrets = [
        (folder / name).read_text().strip() for name in ("dev-key", "jwt-secret", "redis-password")
    ]
    lines = processes_in(up.directory)
    assert len(lines) >= len(PROCESSES)
    assert not [line for line in lines if any(secret in line for secret in secrets)]
    stranger = Redis.from_url(f"redis://{up.state['redis']}/0")
    with pytest.raises(AuthenticationError):
        await stranger.ping()
    await stranger.aclose()


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


def test_what_the_doctor_calls_a_problem_is_refused_before_anything_is_started(
    tmp_path: Path,
) -> None:
    (tmp_path / "model").mkdir()

    result = penstock(tmp_path, "up", env=environment(PENSTOCK_ENGINE__MODEL="./model"))

    assert result.returncode == 1
    assert "model has no config.json" in result.stderr
    assert "PENSTOCK_ENGINE__MODEL" in result.stderr
    assert not (tmp_path / ".penstock" / "logs").exists()


@pytest.mark.slow
def test_redis_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    env = {**SIMULATED, "PENSTOCK_REDIS__URL": "redis://:secret@127.0.0.1:1/0"}

    result = penstock(tmp_path, "up", env=env)

    assert result.returncode == 3
    assert "no Redis answers at 127.0.0.1:1" in result.stderr
    assert "Connect call failed" in result.stderr
    assert "secret" not in result.stdout + result.stderr


@pytest.mark.slow
async def test_a_named_redis_that_is_not_durable_is_used_with_a_warning(
    tmp_path: Path, redis_server: RedisServer
) -> None:
    env = {**SIMULATED, "PENSTOCK_REDIS__URL": redis_server.url, "PENSTOCK_REDIS__PREFIX": "up"}
    up = Up(tmp_path, env=env)
    try:
        await eventually(lambda: up.says(READY), START_SECONDS)
        assert re.search("warning +redis durability +appendonly is off", up.output())
    finally:
        assert up.stop() == 0


@pytest.mark.slow
async def test_commands_work_against_it_and_sigterm_ends_everything(up: Up) -> None:
    directory = up.directory
    second = penstock(directory, "up")
    assert second.returncode == 1
    assert up.state["url"] in second.stderr
    assert str(up.pid) in second.stderr

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
    doctor = json.loads(penstock(directory, "doctor", "--json").stdout)
    found = {one["name"]: one for one in doctor["checks"]}
    assert doctor["problems"] == 0, doctor
    assert up.state["url"] in found["ports"]["text"]
    assert up.state["redis"] in found["redis"]["text"]
    assert found["redis durability"]["level"] == found["tables"]["level"] == "ok"

    await is_private(up)

    children = [up.child(name) for name in PROCESSES]
    assert up.stop(signal.SIGTERM) == 0
    assert gone(*children)
    assert processes_in(directory) == []
    assert not (directory / ".penstock/state.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGILL, signal.SIGKILL])
async def test_crashed_worker_is_explained_and_its_job_completes(
    up: Up, number: signal.Signals
) -> None:
    worker = up.child("worker")
    submitted = penstock(up.directory, "jobs", "submit", "hello", "--max-tokens", "2000")
    job_id = submitted.stdout.strip()

    async def runs() -> bool:
        got = penstock(up.directory, "jobs", "get", job_id, "--json")
        return bool(json.loads(got.stdout)["status"] == "in_progress")

    await eventually(runs, 30)
    os.kill(worker, number)

    done = penstock(up.directory, "jobs", "get", job_id, "--wait", seconds=100)
    assert done.returncode == 0
    assert "2000 out" in done.stderr
    assert up.child("worker") != worker
    assert f"worker died (signal {int(number)}, {number.name}); starting it again" in up.output()
    assert "it was ready: running or waiting for jobs" in up.output()
    await eventually(lambda: up.says("worker is ready again after"), 60)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["redis", "api", "control"])
async def test_every_other_process_is_started_again_too_and_jobs_are_kept(
    up: Up, name: str
) -> None:
    job_id = penstock(up.directory, "jobs", "submit", "hello", "--max-tokens", "3").stdout.strip()
    assert penstock(up.directory, "jobs", "get", job_id, "--wait").returncode == 0
    before = up.child(name)

    os.kill(before, signal.SIGKILL)

    await eventually(lambda: up.says(f"{name} is ready again after"), 60)
    assert up.child(name) != before
    job = json.loads(penstock(up.directory, "jobs", "get", job_id, "--json").stdout)
    assert job["status"] == "completed"
    another = penstock(up.directory, "jobs", "submit", "hello", "--max-tokens", "3", "--stream")
    assert another.returncode == 0, another.stderr


#: Kills the worker before it does anything, as a compiled kernel for another CPU would.
CRASH = """
import os, signal, sys
if sys.orig_argv[-1] == "workers":
    os.kill(os.getpid(), signal.SIGILL)
"""


@pytest.mark.slow
def test_worker_that_crashes_at_each_start_ends_everything_with_the_explanation(
    tmp_path: Path,
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(CRASH)

    result = penstock(
        tmp_path, "up", env={**SIMULATED, "PYTHONPATH": str(tmp_path / "site")}, seconds=120
    )

    assert result.returncode == 1, result.stdout + result.stderr
    assert result.stdout.count("worker died while starting (signal 4, SIGILL)") == 2
    assert "worker died while starting (signal 4, SIGILL), 3 times in a row" in result.stderr
    assert "PENSTOCK_ENGINE__DTYPE=float32" in result.stderr
    assert "Fatal Python error: Illegal instruction" in result.stderr
    assert processes_in(tmp_path) == []


@pytest.mark.slow
def test_model_that_cannot_be_loaded_is_tried_once(tmp_path: Path) -> None:
    env = environment(PENSTOCK_ENGINE__DTYPE="nonsense")

    result = penstock(tmp_path, "up", env=env, seconds=200)

    assert result.returncode == 1, result.stdout + result.stderr
    assert "starting it again" not in result.stdout
    assert "worker died while starting (exit code 1)" in result.stderr
    assert "the engine did not start" in result.stderr
    assert processes_in(tmp_path) == []


@pytest.mark.slow
async def test_no_process_outlives_a_killed_up(up: Up) -> None:
    children = [up.child(name) for name in PROCESSES]

    up.signal(signal.SIGKILL)

    async def all_gone() -> bool:
        return gone(*children)

    await eventually(all_gone, 30)
    assert processes_in(up.directory) == []
