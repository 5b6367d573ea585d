"""`penstock bills`: arguments, output and exit codes."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from redis import Redis
from typer.testing import CliRunner, Result

from cli.main import app
from core.db.database import Database
from core.redis.keys import Keys
from core.runtime.child_process import free_port
from core.settings.billing import DatabaseSettings
from core.settings.tree import get_settings
from tests.support.months import MONTH, a_past_price, an_account, usage_entry, used
from tests.support.redis_server import RedisServer

CLOSED = ("bills", "close", MONTH)


@pytest.fixture(autouse=True)
def _settings(
    database_settings: DatabaseSettings,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PENSTOCK_REDIS__URL", redis_server.url)
    monkeypatch.setenv("PENSTOCK_REDIS__PREFIX", tmp_path.name)
    monkeypatch.setenv("PENSTOCK_DATABASE__URL", database_settings.url.get_secret_value())
    monkeypatch.setenv("PENSTOCK_SELLER__NAME", "Sluice GmbH")
    get_settings.cache_clear()


def penstock(*words: str, code: int = 0) -> Result:
    result = CliRunner().invoke(app, words, prog_name="penstock")
    assert result.exit_code == code, result.output
    return result


def on_database(settings: DatabaseSettings, work: Callable[[Database], Awaitable[None]]) -> None:
    async def run() -> None:
        database = Database(settings, "test")
        try:
            await work(database)
        finally:
            await database.close()

    asyncio.run(run())


@pytest.fixture
def _month(database_settings: DatabaseSettings) -> None:
    async def fill(database: Database) -> None:
        await an_account(database)
        await a_past_price(database)
        await used(database, usage_entry(output_tokens=100_000))

    on_database(database_settings, fill)


@pytest.mark.usefixtures("_month")
def test_a_month_is_closed_corrected_and_exported(tmp_path: Path) -> None:
    added = penstock("bills", "adjust", "acme", "--amount", "-0.01", "--reason", "sorry",
                     "--month", MONTH)  # fmt: skip
    assert added.stdout.startswith("adj_")
    (invoice,) = json.loads(penstock(*CLOSED, "--json").stdout)
    assert (invoice["total"], invoice["due"]) == ("0.02017", "0.02")
    again = penstock(*CLOSED)
    assert "nothing was changed" in again.stderr
    assert invoice["number"] in again.stdout
    words = ("--amount", "0.01", "--reason", "an error")
    assert penstock("bills", "credit", invoice["number"], *words).stdout == "CN-2026-10-0001-1\n"
    listed = json.loads(penstock("bills", "list", "--json").stdout)
    assert [row["corrects"] for row in listed] == [invoice["number"], None]

    wanted = ("--month", MONTH, "--format", "pdf", "--out", str(tmp_path / "out"))
    exported = json.loads(penstock("bills", "export", *wanted, "--json").stdout)
    assert [file["name"] for file in exported["files"]] == ["INV-2026-10-0001.pdf"]
    assert Path(exported["folder"], "INV-2026-10-0001.pdf").read_bytes().startswith(b"%PDF")
    repeated = penstock("bills", "export", *wanted)
    assert "existed already" in repeated.stderr
    assert repeated.stdout.strip() == exported["folder"]


@pytest.mark.usefixtures("_month")
def test_a_month_is_not_closed_while_its_usage_waits_unless_forced(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    outbox = Keys(tmp_path.name).outbox
    with Redis.from_url(redis_server.url) as redis:
        redis.xadd(outbox, {"unreadable": "entry"})
    assert "the outbox has 1 entry of 2026-10 or before" in penstock(*CLOSED, code=1).stderr
    assert "INV-2026-10-0001" in penstock(*CLOSED, "--force").stdout


@pytest.mark.usefixtures("_month")
def test_a_month_is_not_closed_unless_redis_says_that_nothing_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PENSTOCK_REDIS__URL", f"redis://127.0.0.1:{free_port()}")
    get_settings.cache_clear()
    assert "--force closes without" in penstock(*CLOSED, code=3).stderr
    assert "INV-2026-10-0001" in penstock(*CLOSED, "--force").stdout


@pytest.mark.usefixtures("_month")
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("close", "2999-01"), 1, "has not started"),
        (("close", "2026-13"), 2, "not a month"),
        (("export", "--month", MONTH, "--format", "csv"), 1, "not closed"),
        (("export", "--month", MONTH, "--format", "xlsx"), 2, "xlsx"),
        (("adjust", "acme", "--amount", "much", "--reason", "x"), 2, "not a number"),
        (("adjust", "acme", "--amount", "0", "--reason", "x"), 2, "other than 0"),
        (("adjust", "nobody", "--amount", "1", "--reason", "x"), 2, "account 'nobody' not found"),
        (("credit", "INV-1", "--amount", "1", "--reason", "x"), 2, "invoice 'INV-1' not found"),
    ],
)
def test_what_cannot_be_is_said_in_words(words: tuple[str, ...], code: int, said: str) -> None:
    assert said in penstock("bills", *words, code=code).stderr


def test_a_month_with_nothing_in_it_is_said_to_be_empty() -> None:
    assert "it had no usage" in penstock(*CLOSED).stderr
    empty = penstock("bills", "export", "--month", MONTH, "--format", "pdf")
    assert "no invoices" in empty.stderr


@pytest.mark.usefixtures("_month")
def test_a_running_month_is_exported_when_it_is_called_preliminary(tmp_path: Path) -> None:
    words = ("--month", MONTH, "--format", "json", "--preliminary")
    said = penstock("bills", "export", *words)
    assert "this is not an invoice" in said.stderr
    document = json.loads((tmp_path / f"{MONTH}-json-preliminary" / "invoices.json").read_text())
    assert document["preliminary"] is True
    assert document["invoices"][0]["seller"]["name"] == "Sluice GmbH"
