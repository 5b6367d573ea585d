"""Every process refuses a wrong setting with one line that names it, and never shows a secret."""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydantic import SecretStr

from core.runtime.process import read_settings, require_file
from core.settings.invalid_settings import InvalidSettings
from core.settings.tree import Settings, get_settings
from tests.support.commands import PENSTOCK, run
from tests.support.environment import inherited
from tests.support.logging_state import kept

SECRET = "hunter2-hunter2-hunter2-hunter2-hunter2"


@dataclass(frozen=True)
class Wrong:
    """A wrong variable, and what the line about it has to say."""

    variable: str
    value: str
    says: str
    also: dict[str, str] = field(default_factory=dict)
    #: What the line begins with, when a rule is about another setting than the variable.
    names: str = ""


REDIS = "expected redis://[:PASSWORD@]HOST:PORT/NUMBER"
DATABASE = "expected sqlite+aiosqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST/NAME"
FILES = "expected file:FOLDER, file:///FOLDER or s3://BUCKET/PREFIX"

KINDS = [
    Wrong("PENSTOCK_LEASE__HEARTBEAT_SECONDS", SECRET, "expected a valid number"),
    Wrong("PENSTOCK_LIMITS__BODY_BYTES", "12", "expected greater than or equal to 1000"),
    Wrong("PENSTOCK_LOG__LEVEL", SECRET, "expected 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
    Wrong("PENSTOCK_AUTH__JWT_SECRET", SECRET[:20], "expected at least 32 characters"),
    Wrong("PENSTOCK_API__CORS_ORIGINS", SECRET, "expected a JSON list"),
    Wrong("PENSTOCK_CONTROL__MODELS", "{" + SECRET, "expected a JSON object"),
    Wrong("PENSTOCK_ENGINE__EXTRA_ARGS", f'["{SECRET}"]', "expected a JSON object"),
    Wrong("PENSTOCK_AUTH", "{" + SECRET, "expected a JSON object, or a variable for each"),
    Wrong("PENSTOCK_STREAM__PING_SECOND", SECRET, "expected PENSTOCK_STREAM__PING_SECONDS?"),
    Wrong("PENSTOCK_NONSENSE__VALUE", SECRET, "docs/settings.md lists all settings"),
    Wrong("PENSTOCK_REDIS_URL", SECRET, "expected PENSTOCK_REDIS__URL, with two underscores"),
    Wrong("PENSTOCK_NONSENSE", SECRET, "docs/settings.md lists all settings"),
    Wrong(
        "PENSTOCK_BATCHES__LOOK_SECONDS",
        "1",
        "the old name of PENSTOCK_BATCHES__POLL_SECONDS, which is set too",
        also={"PENSTOCK_BATCHES__POLL_SECONDS": "1"},
    ),
    *(
        Wrong("PENSTOCK_REDIS__URL", url, REDIS)
        for url in (
            f":{SECRET}@localhost:6379",
            f"localhost:6379/{SECRET}",
            f"http://:{SECRET}@localhost:6379",
            f"redis://:{SECRET}/@localhost:6379",
            f"redis://localhost:{SECRET}/0",
            f"redis://localhost/{SECRET}",
            "",
        )
    ),
    *(
        Wrong("PENSTOCK_DATABASE__URL", url, DATABASE)
        for url in (
            f"mysql://me:{SECRET}@host/name",
            f"postgres://me:{SECRET}@host/name",
            f"postgresql://me:{SECRET}@host/name",
            f"postgresql+psycopg://me:{SECRET}@host",
            f"sqlite+aiosqlite://{SECRET}.db",
            f"{SECRET}.db",
            "",
        )
    ),
    *(
        Wrong("PENSTOCK_FILES__URL", url, FILES)
        for url in (
            f"gs://bucket/x?key={SECRET}",
            f"file://host/{SECRET}",
            f"s3:///{SECRET}",
            f"s3://bucket?nope={SECRET}",
            f"/srv/{SECRET}",
            "",
        )
    ),
    Wrong("PENSTOCK_TRACE__ENDPOINT", f"{SECRET}:4318", "expected a URL that begins with https://"),
    Wrong("PENSTOCK_AUTH__OIDC__JWKS_URL", SECRET, "expected a URL that begins with https://"),
    Wrong(
        "PENSTOCK_LEASE__SECONDS",
        "2",
        " must be at least 3 x PENSTOCK_LEASE__HEARTBEAT_SECONDS",
        also={"PENSTOCK_AUTH__JWT_SECRET": SECRET},
    ),
    Wrong(
        "PENSTOCK_LIMITS__RUN_SECONDS",
        "7200",
        " must exceed PENSTOCK_LIMITS__RUN_SECONDS",
        also={"PENSTOCK_AUTH__JWT_SECRET": SECRET},
        names="PENSTOCK_WORKER__VISIBILITY_SECONDS",
    ),
]

#: The command of each process; `db upgrade` is an ordinary command.
PROCESSES = ("api", "control", "ledger", "feeder", "deliverer", "worker")


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("PENSTOCK_"):
            monkeypatch.delenv(name)
    get_settings.cache_clear()
    with kept():
        yield
    get_settings.cache_clear()


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        read_settings("api")
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("source", ["environment", ".env"])
@pytest.mark.parametrize("wrong", KINDS, ids=lambda wrong: f"{wrong.variable}-{wrong.value[:12]}")
def test_a_wrong_value_is_one_line_that_names_the_variable_and_what_is_expected(
    wrong: Wrong,
    source: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = {wrong.variable: wrong.value, **wrong.also}
    if source == ".env":
        Path(".env").write_text("".join(f"{name}='{value}'\n" for name, value in given.items()))
    else:
        for name, value in given.items():
            monkeypatch.setenv(name, value)

    said = refused(capsys)

    (line,) = said.splitlines()
    record = json.loads(line)
    assert record["event"] == "setting_invalid"
    assert record["process"] == "api"
    assert record["detail"].startswith(wrong.names or wrong.variable)
    assert wrong.says in record["detail"]
    assert SECRET not in said
    assert SECRET[:20] not in said


def test_logs_for_people_stay_for_people_when_a_setting_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PENSTOCK_LOG__FORMAT", "console")
    monkeypatch.setenv("PENSTOCK_API__PORT", "99999")

    (line,) = refused(capsys).splitlines()

    assert not line.startswith("{")
    assert "PENSTOCK_API__PORT: expected less than or equal to 65535" in line


def test_a_dotenv_file_that_is_not_text_is_refused_without_its_bytes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path(".env").write_bytes(b"PENSTOCK_AUTH__JWT_SECRET=" + SECRET.encode() + b"\xff\n")

    said = refused(capsys)

    assert json.loads(said)["detail"].startswith(".env: expected")
    assert SECRET not in said


def test_variables_of_the_commands_and_of_compose_are_no_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    foreign = ["URL", "KEY", "API_KEY", "TAG", "PUBLISH", "COMPOSE_TAG"]
    Path(".env").write_text("".join(f"PENSTOCK_{name}=x\n" for name in foreign))
    for name in foreign:
        monkeypatch.setenv(f"PENSTOCK_{name}", "x")

    assert get_settings() == Settings(_env_file=None)


def test_variables_that_kubernetes_makes_for_a_service_are_no_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PENSTOCK_API_PORT", "tcp://10.0.0.1:8080")
    assert "PENSTOCK_API__PORT" in refused(capsys), "nothing says that it is a service's"

    for name in ("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT_8080_TCP_ADDR"):
        monkeypatch.setenv(f"PENSTOCK_API_{name}", "10.0.0.1")

    assert get_settings() == Settings(_env_file=None)


def test_an_error_that_reaches_a_traceback_has_no_value_in_it() -> None:
    with pytest.raises(ValueError, match="lease") as raised:
        Settings(_env_file=None, lease={"seconds": 2}, auth={"jwt_secret": SecretStr(SECRET)})

    assert "2" in str(raised.value)
    assert SECRET[-8:] not in str(raised.value)


def test_a_file_that_a_setting_names_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    read_settings("deliverer")

    with pytest.raises(SystemExit) as ended:
        require_file("PENSTOCK_WEBHOOKS__CA_FILE", tmp_path / "missing.pem")

    assert ended.value.code == 2
    detail = json.loads(capsys.readouterr().err)["detail"]
    assert detail.startswith("PENSTOCK_WEBHOOKS__CA_FILE: expected a file that can be read")


def test_all_wrong_settings_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_API__PORT", "x")
    monkeypatch.setenv("PENSTOCK_REDIS_URL", "x")

    with pytest.raises(InvalidSettings) as raised:
        get_settings()

    assert len(raised.value.lines) == 2


@pytest.mark.parametrize("process", PROCESSES)
def test_every_process_ends_with_2_and_one_line_for_each_wrong_setting(
    process: str, tmp_path: Path
) -> None:
    wrong = {
        "PENSTOCK_AUTH__JWT_SECRET": SECRET[:20],
        "PENSTOCK_REDIS_URL": SECRET,
        "PENSTOCK_DATABASE__URL": f"mysql://me:{SECRET}@host/name",
        "PENSTOCK_FILES__URL": "gs://bucket",
        "PENSTOCK_API__CORS_ORIGINS": SECRET,
    }

    done = run([str(PENSTOCK), process], directory=tmp_path, env={**inherited(), **wrong})

    records = [json.loads(line) for line in done.stderr.splitlines()]
    assert done.returncode == 2
    assert done.stdout == ""
    assert {record["process"] for record in records} == {process}
    assert sorted(record["detail"].partition(":")[0] for record in records) == sorted(wrong)
    assert SECRET[:20] not in done.stderr


def test_a_command_says_the_same_for_people(tmp_path: Path) -> None:
    wrong = {"PENSTOCK_DATABASE__URL": f"mysql://me:{SECRET}@host/name"}

    done = run([str(PENSTOCK), "keys", "list"], directory=tmp_path, env={**inherited(), **wrong})

    assert done.returncode == 2
    assert "PENSTOCK_DATABASE__URL: expected sqlite+aiosqlite:///FILE" in done.stderr
    assert SECRET not in done.stderr


def test_an_api_without_a_secret_names_the_variable_in_its_log(tmp_path: Path) -> None:
    done = run([sys.executable, "-m", "api"], directory=tmp_path, env=inherited())

    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert json.loads(line)["detail"].startswith("PENSTOCK_AUTH__JWT_SECRET: ")
