"""How long the supervisor waits before it starts a process again."""

from cli.local.supervisor import RESTARTS


def test_delay_doubles_up_to_half_a_minute() -> None:
    assert [RESTARTS.ceiling(deaths) for deaths in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]
