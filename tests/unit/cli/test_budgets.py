"""`penstock budgets`: set, list with what was spent, remove; the secret is shown once."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from accounts.account_rows import ensure_account
from cli.connect.database import with_database
from cli.main import app


@pytest.fixture(autouse=True)
def _database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PENSTOCK_DATABASE__URL", f"sqlite+aiosqlite:///{tmp_path}/p.db")
    assert CliRunner().invoke(app, ["db", "upgrade"]).exit_code == 0
    with_database(lambda database: ensure_account(database, "acme"))


def budgets(*words: str) -> Result:
    return CliRunner().invoke(app, ["budgets", *words], prog_name="penstock")


def test_a_budget_is_listed_as_it_was_set() -> None:
    assert budgets("set", "acme", "25.5", "--warn", "90", "--warn", "50").exit_code == 0
    assert budgets("set", "acme", "5", "--key", "key_1", "--soft").exit_code == 2
    made = CliRunner().invoke(app, ["keys", "create", "acme", "--json"]).stdout
    key_id = json.loads(made)["id"]
    assert budgets("set", "acme", "5", "--key", key_id, "--soft").exit_code == 0
    account, key = json.loads(budgets("list", "--json").stdout)
    assert (account["amount"], account["hard"], account["warn_percents"]) == (
        "25.5",
        True,
        [50, 90],
    )
    assert (key["key"], key["hard"], key["spent"]) == (key_id, False, "0")


def test_a_typing_error_in_the_account_is_refused_and_makes_no_account() -> None:
    refused = budgets("set", "acmee", "25")

    assert refused.exit_code == 2
    assert "there is no account 'acmee'" in refused.stderr
    assert json.loads(budgets("list", "--json").stdout) == []


def test_the_secret_of_a_webhook_is_shown_once() -> None:
    made = budgets("set", "acme", "25", "--webhook", "https://example.com/hook")
    assert "whsec_" in made.stderr
    assert "whsec_" not in budgets("list", "--json").stdout


def test_removing_takes_the_limit_away_and_says_where_there_is_none() -> None:
    budgets("set", "acme", "25")
    assert budgets("remove", "acme").exit_code == 0
    assert budgets("remove", "acme").exit_code == 2
    assert json.loads(budgets("list", "--json").stdout) == []


@pytest.mark.parametrize("amount", ["abc", "NaN", "1e30", "0.0000001"])
def test_an_amount_that_is_none_is_a_usage_error(amount: str) -> None:
    refused = budgets("set", "acme", amount)
    assert refused.exit_code == 2
    assert "amount" in refused.stderr.lower()


def test_a_webhook_that_nothing_would_be_sent_to_is_refused() -> None:
    refused = budgets("set", "acme", "25", "--webhook", "https://10.0.0.1/hook")

    assert refused.exit_code == 2
    assert "--webhook: expected an address on the public internet" in refused.stderr
