"""The command line itself: help, exit codes, keys, settings that are wrong."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.main import NOUNS, app


@pytest.fixture(autouse=True)
def _directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def penstock(*words: str) -> Result:
    return CliRunner().invoke(app, words, prog_name="penstock")


def test_help_lists_every_noun_and_the_exit_codes() -> None:
    result = penstock("--help")

    assert result.exit_code == 0
    assert all(noun in result.output for noun in NOUNS)
    assert "Exit codes" in result.output


@pytest.mark.parametrize("noun", list(NOUNS))
def test_every_noun_explains_itself(noun: str) -> None:
    result = penstock(noun, "--help")

    assert result.exit_code == 0
    assert f"penstock {noun}" in result.output


def test_version_is_printed() -> None:
    assert penstock("--version").output.strip()[0].isdigit()


def test_unknown_noun_is_a_usage_error() -> None:
    assert penstock("nonsense").exit_code == 2


def test_no_pipeline_is_a_usage_error() -> None:
    result = penstock("jobs", "list")

    assert result.exit_code == 2
    assert "penstock up" in result.stderr


def test_server_that_is_not_there_exits_3() -> None:
    assert penstock("jobs", "list", "--url", "http://127.0.0.1:1", "--key", "pk_x").exit_code == 3


def test_created_key_is_printed_once_and_listed_without_it() -> None:
    assert penstock("db", "upgrade").exit_code == 0
    made = json.loads(penstock("keys", "create", "acme", "--max-running", "2", "--json").stdout)
    plain = penstock("keys", "create", "acme").stdout.strip()
    listed = penstock("keys", "list", "--json").stdout

    assert made["key"].startswith("pk_")
    assert plain.startswith("pk_")
    assert made["key"] not in listed
    assert plain not in listed
    assert [record["account"] for record in json.loads(listed)] == ["acme", "acme"]
    assert [record["limits"]["max_running"] for record in json.loads(listed)] == [0, 2]
    assert made["id"] in penstock("keys", "list").stdout


def test_impossible_key_names_the_field() -> None:
    result = penstock("keys", "create", "not/allowed")

    assert result.exit_code == 2
    assert "ACCOUNT" in result.stderr


def test_wrong_setting_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_API__PORT", "99999")

    result = penstock("up")

    assert result.exit_code == 2
    assert "PENSTOCK_API__PORT" in result.stderr


def test_unknown_variable_in_the_env_file_is_named() -> None:
    Path(".env").write_text("PENSTOCK_NONSENSE=1\n")

    result = penstock("keys", "list")

    assert result.exit_code == 2
    assert "PENSTOCK_NONSENSE" in result.stderr
    assert "PENSTOCK_PENSTOCK" not in result.stderr
