"""Settings: parsing, and the rules between them."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from core.settings.invalid_settings import InvalidSettings
from core.settings.tree import Settings, get_settings


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


OLD_NAMES = [
    ("WORKER__DEAF_SECONDS", "worker", "redis_unreachable_seconds"),
    ("AUTH__ATTEMPTS_SECONDS", "auth", "attempts_window_seconds"),
    ("BATCHES__AT_ONCE", "batches", "concurrency"),
    ("BATCHES__AT_ONCE_PER_ACCOUNT", "batches", "concurrency_per_account"),
    ("BATCHES__LOOK_SECONDS", "batches", "poll_seconds"),
    ("WEBHOOKS__AT_ONCE", "webhooks", "concurrency"),
    ("WEBHOOKS__AT_ONCE_PER_ACCOUNT", "webhooks", "concurrency_per_account"),
    ("WEBHOOKS__AT_ONCE_PER_HOST", "webhooks", "concurrency_per_host"),
]


@pytest.mark.parametrize(("old", "group", "name"), OLD_NAMES)
def test_an_old_name_sets_the_renamed_setting(
    old: str, group: str, name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / ".env"
    file.write_text(f"PENSTOCK_{old}=32\n")
    assert getattr(getattr(Settings(_env_file=file), group), name) == 32

    monkeypatch.setenv(f"PENSTOCK_{old}", "32")
    assert getattr(getattr(Settings(_env_file=None), group), name) == 32


def test_an_old_and_a_new_name_together_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_BATCHES__LOOK_SECONDS", "1")
    monkeypatch.setenv("PENSTOCK_BATCHES__POLL_SECONDS", "2")
    with pytest.raises(ValidationError, match="look_seconds"):
        Settings(_env_file=None)


@pytest.mark.parametrize(
    ("text", "ports"),
    [("[443, 8443]", [443, 8443]), ("443, 8443", [443, 8443]), ("443", [443]), ("", [])],
)
def test_a_list_is_json_and_for_webhooks_commas_work_too(
    text: str, ports: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_WEBHOOKS__PORTS", text)
    assert Settings(_env_file=None).webhooks.ports == ports


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PENSTOCK_LEASE__SECONDS", "soon"),
        ("PENSTOCK_API__CORS_ORIGINS", "https://app.example"),
        ("PENSTOCK_WEBHOOKS__PORTS", "[443"),
        ("PENSTOCK_CONTROL__MODELS", "{llama"),
        ("PENSTOCK_ENGINE__SIMULATED__FAULTS", "perhaps"),
    ],
)
def test_the_error_for_a_wrong_setting_names_the_variable(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, value)
    get_settings.cache_clear()

    with pytest.raises(InvalidSettings) as raised:
        get_settings()

    assert len(raised.value.lines) == 1
    assert raised.value.lines[0].startswith(f"{variable}")
