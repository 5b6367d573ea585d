"""Child processes: start, probe, stop, and their end with their parent."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pydantic import SecretStr

from core.runtime.child_process import (
    ChildProcess,
    NotReady,
    Program,
    answers,
    connects,
    free_port,
    variables,
)
from core.settings.tree import Settings, get_settings
from tests.support.waiting import eventually

#: Says its own process id and that of a child, which outlives it unless its group is killed.
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""
#: Starts one child process and waits.
STARTER = """
import time
from pathlib import Path
from core.runtime.child_process import ChildProcess, Program
child = ChildProcess(Program("sleep", ["sleep", "600"], Path(LOG)))
child.start()
print(child.pid, flush=True)
time.sleep(600)
"""


def python(tmp_path: Path, code: str, **more: float) -> ChildProcess:
    command = [sys.executable, "-c", code]
    return ChildProcess(Program("it", command, tmp_path / "log", **more))


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def parent(tmp_path: Path) -> Iterator[ChildProcess]:
    process = python(tmp_path, PARENT)
    process.begin()
    process.wait_until(lambda: process.output().strip() != "", 30)
    yield process
    process.stop()


async def test_stopping_ends_it_and_all_that_it_started(parent: ChildProcess) -> None:
    grandchild = int(parent.output())
    assert alive(grandchild)
    assert parent.stop() == -signal.SIGTERM
    assert not parent.running

    async def gone() -> bool:
        return not alive(grandchild)

    await eventually(gone)


def test_a_frozen_one_is_stopped_in_order(parent: ChildProcess) -> None:
    parent.signal(signal.SIGSTOP)
    assert parent.stop() == -signal.SIGTERM


def test_one_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ignoring', flush=True)"
    ignoring = python(tmp_path, f"{code}; time.sleep(600)", stop_seconds=0.1)
    ignoring.begin()
    ignoring.wait_until(lambda: "ignoring" in ignoring.output(), 30)
    assert ignoring.stop() == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends children with their parent")
async def test_it_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    starter = python(tmp_path, STARTER.replace("LOG", repr(str(tmp_path / "child"))))
    starter.begin()
    starter.wait_until(lambda: starter.output().strip() != "", 30)
    child = int(starter.output())
    assert alive(child)
    starter.kill()

    async def gone() -> bool:
        return not alive(child)

    await eventually(gone)


def test_one_that_ends_too_early_shows_its_log(tmp_path: Path) -> None:
    class NeverReady(ChildProcess):
        def ready(self) -> bool:
            return False

    broken = NeverReady(Program("it", ["sh", "-c", "echo no such model; exit 3"], tmp_path / "log"))
    with pytest.raises(NotReady, match=r"it ended with 3:\nno such model"):
        broken.start()
    slow = NeverReady(Program("it", ["sleep", "9"], tmp_path / "slow", start_seconds=0.1))
    with pytest.raises(NotReady, match=r"not ready after 0\.1 s"):
        slow.start()
    slow.stop()


def test_it_can_be_started_again_and_its_log_goes_on(tmp_path: Path) -> None:
    said = ChildProcess(Program("it", ["echo", "hello"], tmp_path / "log"))
    for _ in range(2):
        said.begin()
        assert said.wait() == 0
    assert said.output() == "hello\nhello\n"


def test_only_the_log_of_the_present_run_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    echo = ChildProcess(Program("it", ["cat", str(tmp_path / "text")], log))
    for text in ("first run", "second run"):
        (tmp_path / "text").write_text(text)
        echo.begin()
        assert echo.wait() == 0
    assert echo.tail() == "second run"
    assert echo.read_log(3) == "run"
    assert echo.read_log(6, last=False) == "second"
    log.unlink()
    assert echo.tail() == ""


def test_the_time_to_stop_can_be_shorter_than_that_of_the_program(tmp_path: Path) -> None:
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ignoring', flush=True)"
    ignoring = python(tmp_path, f"{code}; time.sleep(600)", stop_seconds=600.0)
    ignoring.begin()
    ignoring.wait_until(lambda: "ignoring" in ignoring.output(), 30)
    assert ignoring.stop(seconds=0.1) == -signal.SIGKILL


def test_probes_see_a_server_on_this_machine(tmp_path: Path) -> None:
    port = free_port()
    assert not connects(port)
    assert not answers(f"http://127.0.0.1:{port}/")
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    server = ChildProcess(Program("http", command, tmp_path / "log", directory=tmp_path))
    server.begin()
    server.wait_until(lambda: answers(f"http://127.0.0.1:{port}/"), 30)
    assert connects(port)
    assert not answers(f"http://127.0.0.1:{port}/missing")
    server.stop()
    assert not connects(port)


def test_settings_reach_a_process_by_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Settings(
        _env_file=None,
        database={"url": SecretStr("sqlite+aiosqlite:///x.db")},
        api={"port": 0, "cors_origins": ["https://app.example"]},
        retry={"max_attempts": 7},
    )
    for name, value in variables(given).items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    assert get_settings() == given
    assert os.environ["PENSTOCK_RETRY__MAX_ATTEMPTS"] == "7"
