"""How long the supervisor waits before it starts a worker again, and what it shows of a log."""

from pathlib import Path

from cli.local.supervisor import RESTARTS, tail


def test_delay_doubles_up_to_half_a_minute() -> None:
    assert [RESTARTS.ceiling(deaths) for deaths in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]


def test_tail_shows_the_last_lines_that_say_something(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    assert tail(log) == []

    log.write_bytes(b"x" * 20_000 + b"\nfirst\n\n  \nsecond \xff\nthird\n")

    assert tail(log, 2) == ["second \ufffd", "third"]
