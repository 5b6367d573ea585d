"""The `.penstock` folder: one pipeline at a time, no half-written state, a private key."""

import os
from pathlib import Path

import pytest

from cli.connect.state_dir import PipelineState, StateDir
from cli.terminal.failures import Failure

STATE = PipelineState(
    pid=7,
    url="http://127.0.0.1:8080",
    health_url="http://127.0.0.1:8081",
    redis="127.0.0.1:6399",
    model="penstock-tiny",
    children={"api": 8},
)


def test_state_is_read_as_written_and_can_be_cleared(tmp_path: Path) -> None:
    state_dir = StateDir(tmp_path / "state")
    assert state_dir.read_state() is None

    state_dir.write_state(STATE)
    assert state_dir.read_state() == STATE

    state_dir.clear_state()
    state_dir.clear_state()
    assert state_dir.read_state() is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}'])
def test_damaged_state_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)

    assert StateDir(tmp_path).read_state() is None


def test_second_lock_is_refused_and_says_what_runs(tmp_path: Path) -> None:
    state_dir = StateDir(tmp_path)
    held = state_dir.lock()
    with pytest.raises(Failure, match="starting or stopping"):
        state_dir.lock()

    state_dir.write_state(STATE)
    with pytest.raises(Failure, match="already running") as refused:
        state_dir.lock()
    assert any("kill 7" in line for line in refused.value.advice)

    os.close(held)
    os.close(state_dir.lock())


def test_lock_lives_as_long_as_any_inheritor(tmp_path: Path) -> None:
    state_dir = StateDir(tmp_path)
    ours = state_dir.lock()
    inherited = os.dup(ours)  # what a child gets
    os.close(ours)

    with pytest.raises(Failure):
        state_dir.lock()

    os.close(inherited)
    os.close(state_dir.lock())
