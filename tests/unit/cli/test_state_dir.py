"""The `.penstock` folder: one pipeline at a time, no half-written state, a private key."""

import os
import stat
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


def modes(folder: Path) -> dict[str, int]:
    """Return the rights of everything in a folder."""
    return {
        str(path.relative_to(folder.parent)): stat.S_IMODE(path.stat().st_mode)
        for path in (folder, *folder.rglob("*"))
    }


def test_a_new_folder_and_its_secrets_are_private(tmp_path: Path) -> None:
    state_dir = StateDir(tmp_path / ".penstock")
    os.close(state_dir.lock())
    state_dir.jwt_secret()
    state_dir.redis_config()
    state_dir.write_state(STATE)

    found = modes(state_dir.path)

    assert found.pop(".penstock") == 0o700
    assert set(found.values()) == {0o600}


def test_what_an_earlier_version_left_open_is_closed(tmp_path: Path) -> None:
    state_dir = StateDir(tmp_path / ".penstock")
    data = state_dir.data / "appendonlydir"
    data.mkdir(parents=True)
    for path in (state_dir.path / "penstock.db", data / "appendonly.aof.1.incr.aof"):
        path.write_text("data")
        path.chmod(0o644)
    (state_dir.path / "link").symlink_to(tmp_path)
    outside = stat.S_IMODE(tmp_path.stat().st_mode)
    before = os.umask(0o022)
    try:
        state_dir.close_to_others()
        (state_dir.path / "later").write_text("data")
    finally:
        os.umask(before)

    assert not any(
        mode & 0o077 for name, mode in modes(state_dir.path).items() if "link" not in name
    )
    assert modes(state_dir.path)[".penstock/redis/appendonlydir"] == 0o700
    assert stat.S_IMODE(tmp_path.stat().st_mode) == outside


def test_the_password_of_the_embedded_redis_is_in_its_url_only_here(tmp_path: Path) -> None:
    state_dir = StateDir(tmp_path)
    assert state_dir.redis_url("127.0.0.1:1") == "redis://127.0.0.1:1/0"

    state_dir.redis_config()

    password = state_dir.redis_password()
    assert state_dir.redis_url("127.0.0.1:1") == f"redis://:{password}@127.0.0.1:1/0"
