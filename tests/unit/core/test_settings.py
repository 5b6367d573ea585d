"""Settings: parsing, and the rules between them."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from core.settings import Settings


def test_a_lease_shorter_than_three_heartbeats_does_not_start() -> None:
    with pytest.raises(ValidationError, match=r"3 x lease\.heartbeat_seconds"):
        Settings(_env_file=None, lease={"seconds": 2, "heartbeat_seconds": 1})


def test_a_dead_connection_is_given_up_while_the_lease_still_runs() -> None:
    with pytest.raises(ValidationError, match=r"redis\.timeout_seconds"):
        Settings(_env_file=None, redis={"timeout_seconds": 3})


def test_a_grace_period_shorter_than_the_drain_does_not_start() -> None:
    with pytest.raises(ValidationError, match="grace_seconds"):
        Settings(_env_file=None, worker={"drain_seconds": 30})


def test_broker_redelivery_must_outlast_the_longest_run() -> None:
    with pytest.raises(ValidationError, match="visibility_seconds"):
        Settings(_env_file=None, limits={"run_seconds": 7200})


def test_environment_reaches_nested_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_LEASE__SECONDS", "9")
    assert Settings(_env_file=None).lease.seconds == 9


def test_a_misspelt_field_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_LEASE__SECOND", "9")
    with pytest.raises(ValidationError, match="second"):
        Settings(_env_file=None)


def test_a_dotenv_file_is_shared_with_others_but_our_misspelt_lines_are_errors(
    tmp_path: Path,
) -> None:
    file = tmp_path / ".env"
    file.write_text("REDIS_PASSWORD=theirs\nPENSTOCK_LEASE__SECONDS=9\n")
    assert Settings(_env_file=file).lease.seconds == 9
    file.write_text("PENSTOCK_LEASE__SECOND=9\n")
    with pytest.raises(ValidationError, match="second"):
        Settings(_env_file=file)
    file.write_text("PENSTOCK_LEASES__SECONDS=9\n")
    with pytest.raises(ValidationError, match="leases"):
        Settings(_env_file=file)


def test_the_simulated_engine_is_never_the_default() -> None:
    assert Settings(_env_file=None).engine.kind == "vllm"


def test_secrets_do_not_show_in_the_settings_text() -> None:
    text = repr(Settings(_env_file=None, redis={"url": "redis://:hunter2@localhost/0"}))
    assert "hunter2" not in text
