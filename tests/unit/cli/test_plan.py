"""`penstock up`'s decisions before it starts a process, and the starts it refuses."""

import signal
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from cli.checks.start import choose_port, is_free
from cli.connect.embedded_redis import find_program, redis_command
from cli.connect.state_dir import StateDir
from cli.local.plan import Plan, make_plan, process_programs, reachable, redis_program
from cli.terminal.failures import Failure
from core.settings.tree import Settings


def settings(**groups: Any) -> Settings:
    values = {
        "engine": {"kind": "simulated"},
        "api": {"port": 0},
        "worker": {"health_port": 0},
        **groups,
    }
    return Settings(_env_file=None, **values)


PLAN = Plan(
    redis_url="redis://127.0.0.1:6399/0",
    redis_port=6399,
    api_host="0.0.0.0",
    api_port=8080,
    health_host="::",
    health_port=8081,
)


def test_port_zero_becomes_any_free_one(tmp_path: Path) -> None:
    made = make_plan(settings(), StateDir(tmp_path))

    assert made.api_port != made.health_port
    assert is_free("127.0.0.1", made.api_port)


def test_taken_port_is_named_with_the_setting_that_changes_it() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(Failure, match=f"port {port} is taken") as refused:
            choose_port("127.0.0.1", port, "the API", "PENSTOCK_API__PORT")
    assert "PENSTOCK_API__PORT" in refused.value.advice[0]


@pytest.mark.parametrize("port", [0, 18080])
@pytest.mark.parametrize("host", ["203.0.113.7", "no-such-host.invalid", "2001:db8::7"])
def test_host_that_is_not_of_this_machine_is_said_instead_of_its_port(host: str, port: int) -> None:
    with pytest.raises(Failure, match=f"cannot listen on {host}") as refused:
        choose_port(host, port, "the API", "PENSTOCK_API__PORT")
    assert "no such address" in refused.value.title
    assert refused.value.advice[0].startswith("PENSTOCK_API__HOST: expected an address of this")


def test_given_redis_is_used_and_none_is_embedded(tmp_path: Path) -> None:
    given = settings(redis={"url": "redis://:secret@redis.internal:7000/1"})
    made = make_plan(given, StateDir(tmp_path))

    assert made.redis_port is None
    assert made.redis_url == "redis://:secret@redis.internal:7000/1"
    assert made.redis_address == "redis.internal:7000"
    assert redis_program(made, StateDir(tmp_path)) is None


def test_embedded_redis_moves_when_its_port_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("cli.local.plan.is_free", lambda _host, _port: False)

    state_dir = StateDir(tmp_path)
    made = make_plan(settings(), state_dir)

    assert made.redis_port not in (None, 6399)
    password = state_dir.redis_password()
    assert made.redis_url == f"redis://:{password}@127.0.0.1:{made.redis_port}/0"
    assert made.redis_address == f"127.0.0.1:{made.redis_port}"


def test_wildcard_addresses_are_reached_over_the_loopback() -> None:
    assert PLAN.url == "http://127.0.0.1:8080"
    assert PLAN.health_url == "http://[::1]:8081"
    assert reachable("example.org") == "example.org"


def test_children_are_told_the_ports_that_were_chosen(tmp_path: Path) -> None:
    programs = process_programs(PLAN, StateDir(tmp_path), settings())

    for program in programs.values():
        assert program.environment["PENSTOCK_REDIS__URL"] == "redis://127.0.0.1:6399/0"
        assert program.environment["PENSTOCK_API__PORT"] == "8080"
        assert program.environment["PENSTOCK_WORKER__HEALTH_PORT"] == "8081"
        assert program.environment["PENSTOCK_LOG__FORMAT"] == "console"
        assert program.environment["PENSTOCK_RETENTION__START"] == "archive"
        assert program.environment["PYTHONFAULTHANDLER"] == "1"


def test_worker_gets_its_grace_period_and_is_asked_to_end_when_up_is_killed(tmp_path: Path) -> None:
    given = settings(worker={"health_port": 0, "grace_seconds": 40.0})

    worker = process_programs(PLAN, StateDir(tmp_path), given)["worker"]

    assert worker.stop_seconds > 40
    assert worker.death_signal is signal.SIGTERM


def test_log_format_that_was_set_is_kept(tmp_path: Path) -> None:
    programs = process_programs(PLAN, StateDir(tmp_path), settings(log={"format": "json"}))

    assert "PENSTOCK_LOG__FORMAT" not in programs["api"].environment


def test_embedded_redis_keeps_everything_and_listens_on_the_loopback_only(tmp_path: Path) -> None:
    state_dir = StateDir(tmp_path)
    words = redis_command("/bin/redis-server", 6399, state_dir)
    options = dict(zip(words[2::2], words[3::2], strict=True))

    assert words[0] == "/bin/redis-server"
    assert options["--bind"] == "127.0.0.1"
    assert options["--appendonly"] == "yes"
    assert options["--appendfsync"] == "everysec"
    assert options["--maxmemory-policy"] == "noeviction"
    assert options["--dir"] == str(state_dir.data)


def test_embedded_redis_reads_its_password_from_a_file_that_is_private(tmp_path: Path) -> None:
    state_dir = StateDir(tmp_path / "state")
    words = redis_command("/bin/redis-server", 6399, state_dir)
    again = redis_command("/bin/redis-server", 6399, state_dir)

    config = Path(words[1])
    password = state_dir.redis_password()
    assert password is not None
    assert len(password) == 64
    assert config.read_text() == f"requirepass {password}\n"
    assert again == words, "the password stays the same"
    assert not any(password in word for word in words)
    for path in (config, state_dir.path / "redis-password"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_too_old_redis_on_the_path_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "redis-server"
    monkeypatch.setenv("PATH", str(tmp_path))

    program.write_text("#!/bin/sh\necho 'Redis server v=6.0.16 sha=0'\n")
    program.chmod(0o755)
    assert find_program() != str(program)

    program.write_text("#!/bin/sh\necho 'Redis server v=7.0.15 sha=0'\n")
    assert find_program() == str(program)
