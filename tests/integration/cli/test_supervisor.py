"""Supervised processes killed by real signals: restarted, explained, or given up."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import psutil
import pytest

from cli.local.supervisor import Child, Supervisor
from cli.terminal.failures import Failure
from core.runtime.child_process import Program
from tests.support.waiting import eventually

#: Records each start; at its n-th start does what the n-th word says, else keeps running.
PROGRAM = """
import os, pathlib, signal, sys, time
lives = pathlib.Path(sys.argv[1])
life = len(lives.read_text()) if lives.exists() else 0
lives.write_text("x" * (life + 1))
words = sys.argv[2:]
word = words[life] if life < len(words) else "live"
print("engine_loading", flush=True)
if word.startswith("exit"):
    sys.exit(int(word[4:]))
if word.startswith("SIG"):
    os.kill(os.getpid(), getattr(signal, word))
if word != "hang":
    print("engine_ready", flush=True)
if word.startswith("late"):
    time.sleep(0.5)
    os.kill(os.getpid(), getattr(signal, word[4:]))
time.sleep(600)
"""


class Stage:
    """A supervisor in a folder of its own, and what it said."""

    def __init__(self, directory: Path) -> None:
        self.said: list[str] = []
        self.restarts = 0
        self.log = directory / "logs" / "worker.log"
        self._lives = directory / "lives"
        self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT)
        self.supervisor = Supervisor(self._lock, self._say, self._restarted)

    def _say(self, title: str, details: Sequence[str]) -> None:
        self.said += [title, *details]

    def _restarted(self) -> None:
        self.restarts += 1

    async def start(self, *words: str, seconds: float = 30.0) -> Child:
        command = [sys.executable, "-c", PROGRAM, str(self._lives), *words]
        program = Program("worker", command, self.log)

        async def ready(child: Child) -> bool:
            return child.logged("engine_ready")

        return self.supervisor.start(program, ready, seconds)

    @property
    def lives(self) -> int:
        return len(self._lives.read_text())

    async def has_said(self, text: str) -> bool:
        return any(text in line for line in self.said)

    async def close(self) -> None:
        await self.supervisor.stop(())
        os.close(self._lock)


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    opened = Stage(tmp_path)
    yield opened
    await opened.close()


@pytest.mark.parametrize("name", ["SIGILL", "SIGSEGV", "SIGKILL"])
async def test_one_crash_at_start_is_explained_and_the_child_starts_again(
    stage: Stage, name: str
) -> None:
    child = await stage.start(name)

    await eventually(lambda: stage.has_said("worker is ready again after"))

    number = int(getattr(signal, name))
    assert stage.said[0] == (
        f"worker died while starting (signal {number}, {name}); starting it again in 1 s"
    )
    assert await stage.has_said("it was loading the model")
    assert child.ready
    assert (stage.lives, stage.restarts) == (2, 1)
    assert not stage.supervisor.failure.done()
    assert f"penstock up: worker died while starting (signal {number}" in stage.log.read_text()


@pytest.mark.parametrize("name", ["SIGILL", "SIGBUS", "SIGKILL"])
async def test_a_crash_after_it_was_ready_is_explained_and_the_child_starts_again(
    stage: Stage, name: str
) -> None:
    child = await stage.start(f"late{name}")
    first = child.pid

    await eventually(lambda: stage.has_said("worker is ready again after"))

    assert f"worker died (signal {int(getattr(signal, name))}, {name})" in stage.said[0]
    assert await stage.has_said("it was ready: running or waiting for jobs")
    assert child.pid != first
    assert child.ready


async def test_a_repeated_crash_is_said_in_short_and_waits_longer(stage: Stage) -> None:
    await stage.start("lateSIGSEGV", "lateSIGSEGV")

    await eventually(lambda: stage.has_said("in 2 s"), 20)

    assert stage.said[-1] == "as before"
    assert sum("fault in native code" in line for line in stage.said) == 1


async def test_three_crashes_at_start_end_it_with_the_explanation(stage: Stage) -> None:
    child = await stage.start("SIGILL", "SIGILL", "SIGILL")

    failure: Failure = await asyncio.wait_for(stage.supervisor.failure, 20)

    assert failure.exit_code == 1
    assert failure.title == "worker died while starting (signal 4, SIGILL), 3 times in a row"
    assert any("PENSTOCK_ENGINE__DTYPE" in line for line in failure.advice)
    assert "  engine_loading" in failure.advice
    assert stage.lives == 3
    assert not child.running


async def test_crashes_at_start_are_counted_however_long_it_took_to_get_there(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.local.supervisor.STABLE_SECONDS", 0.0)
    await stage.start("SIGILL", "SIGILL", "SIGILL")

    failure: Failure = await asyncio.wait_for(stage.supervisor.failure, 20)

    assert failure.title.endswith("3 times in a row")


async def test_one_that_was_ready_for_long_is_started_again_after_a_second(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.local.supervisor.STABLE_SECONDS", 0.0)
    await stage.start("lateSIGKILL", "lateSIGKILL", "lateSIGKILL")

    async def thrice() -> bool:
        return sum("in 1 s" in line for line in stage.said) == 3

    await eventually(thrice, 20)


async def test_a_child_that_says_it_cannot_start_is_not_tried_again(stage: Stage) -> None:
    await stage.start("exit3")

    failure: Failure = await asyncio.wait_for(stage.supervisor.failure, 20)

    assert failure.title == "worker died while starting (exit code 3)"
    assert stage.lives == 1
    assert stage.said == []


async def test_crashes_after_it_was_ready_once_never_end_it(stage: Stage) -> None:
    await stage.start("lateSIGKILL", "SIGILL", "exit1", "live")

    await eventually(lambda: stage.has_said("worker is ready again after"), 30)

    assert stage.lives == 4
    assert not stage.supervisor.failure.done()


async def test_one_that_hangs_while_it_starts_again_is_killed_and_started_again(
    stage: Stage,
) -> None:
    await stage.start("lateSIGKILL", "hang", seconds=2.0)

    await eventually(lambda: stage.has_said("worker is ready again after"), 30)

    assert await stage.has_said("worker was not ready after 2 s and was killed")


async def test_stop_during_the_pause_before_a_restart_leaves_nothing(stage: Stage) -> None:
    child = await stage.start("SIGILL")
    await eventually(lambda: stage.has_said("starting it again"))

    await stage.supervisor.stop(())

    assert not child.running
    assert stage.lives == 1


async def test_stop_ends_what_a_child_started_too(stage: Stage) -> None:
    child = await stage.start("live")

    async def ready() -> bool:
        return child.ready

    await eventually(ready)
    pid = child.pid
    assert os.getpgid(pid) == pid

    await stage.supervisor.stop(())

    assert not psutil.pid_exists(pid)


async def test_an_error_in_asking_ends_the_run_and_is_not_lost(
    stage: Stage, tmp_path: Path
) -> None:
    async def ready(child: Child) -> bool:
        raise ValueError(child.name)

    program = Program("api", [sys.executable, "-c", "import time; time.sleep(600)"], stage.log)
    stage.supervisor.start(program, ready, 5.0)

    with pytest.raises(ValueError, match="api"):
        await asyncio.wait_for(stage.supervisor.failure, 10)
