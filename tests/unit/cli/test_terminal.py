"""What a person sees: tables in a narrow terminal, Ctrl-C, the help, who is audited."""

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from cli.connect import actor as actor_module
from cli.connect.actor import actor
from cli.connect.api_client import StreamEvent
from cli.connect.job_progress import JOB_COLUMNS, job_row, stream_job, wait_with_bar
from cli.help_texts import HELP_TEXTS
from cli.main import NOUNS, app
from cli.terminal import output
from cli.terminal.plain_console import PlainConsole
from tests.unit.cli.test_job_progress import JOB, FakeClient

JOB_ID = "job_01a22a29c3817fe54932529c6ceab5b7"
ROWS = [job_row({**JOB, "id": JOB_ID, "created_at": 1}), job_row({**JOB, "id": "job_2"})]

#: Modules that take long to import, and that a list of commands does not need.
HEAVY = ("sqlalchemy", "redis", "httpx2", "pydantic", "fastapi", "celery", "planning", "billing")


def shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, width: int | None
) -> str:
    terminal = PlainConsole(width=width, force_terminal=width is not None)
    monkeypatch.setattr(output, "out", terminal)
    output.print_table(JOB_COLUMNS, ROWS, nothing="none")
    return capsys.readouterr().out


def plain(text: str) -> list[str]:
    """Return the lines without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()


def test_a_table_that_does_not_fit_is_printed_as_blocks_and_ids_are_whole(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = plain(shown(monkeypatch, capsys, width=80))

    assert lines[0].split() == ["job", JOB_ID]
    assert all(len(line) <= 80 for line in lines)
    assert "" in lines, "an empty line between two jobs"


@pytest.mark.parametrize("width", [200, None])
def test_a_table_that_fits_or_goes_into_a_pipe_is_a_table(
    width: int | None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = plain(shown(monkeypatch, capsys, width=width))

    assert lines[0].split() == list(JOB_COLUMNS)
    assert len(lines) == 1 + len(ROWS)
    assert lines[1].startswith(JOB_ID)


class Interrupted(FakeClient):
    """Ctrl-C is pressed while it answers."""

    def stream(self, path: str, after: int = 0) -> Any:
        del path, after
        yield StreamEvent("1", "delta", {"index": 0, "text": "begun"})
        raise KeyboardInterrupt

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        del path, params
        raise KeyboardInterrupt


@pytest.mark.parametrize(
    "work",
    [
        lambda client: stream_job(client, JOB_ID),
        lambda client: wait_with_bar(client, {**JOB, "id": JOB_ID}, output.err),
    ],
)
def test_ctrl_c_says_that_the_job_goes_on_and_how_to_end_it(
    work: Callable[[Any], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as ended:
        work(Interrupted())

    said = capsys.readouterr().err
    assert ended.value.exit_code == 130
    assert f"{JOB_ID} goes on" in said
    assert f"penstock jobs stream {JOB_ID}" in said
    assert f"penstock jobs cancel {JOB_ID}" in said


def test_the_audit_log_names_the_user_whom_the_kernel_knows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LOGNAME", "mallory")
    monkeypatch.setenv("USER", "mallory")
    monkeypatch.setattr(actor_module, "LOGIN_UID", tmp_path / "none")
    monkeypatch.setattr("socket.gethostname", lambda: "node-7")
    own = actor_module._name(os.getuid())

    assert actor() == f"cli:{own}@node-7"

    (tmp_path / "uid").write_text("4242424\n")
    monkeypatch.setattr(actor_module, "LOGIN_UID", tmp_path / "uid")
    assert actor() == f"cli:{own}(uid 4242424)@node-7"

    (tmp_path / "uid").write_text("4294967295\n")
    assert actor() == f"cli:{own}@node-7", "no sign-in is known"


def test_the_list_of_commands_says_what_each_command_says_of_itself() -> None:
    group: Any = typer.main.get_command(app)
    for noun in NOUNS:
        text = inspect.cleandoc(group.get_command(None, noun).help or "")
        assert " ".join(text.split("\n\n")[0].split()) == HELP_TEXTS[noun]


@pytest.mark.parametrize("words", ["--help", "--version"])
def test_the_list_of_commands_imports_no_heavy_module(words: str, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom cli.main import app\n"
        f"sys.argv = ['penstock', {words!r}]\n"
        "try:\n    app()\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print(sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True
    )

    modules = done.stderr.splitlines()[-1]
    assert "'cli'" in modules
    assert not [name for name in HEAVY if f"'{name}'" in modules]


def test_no_advice_installs_a_package_of_our_name() -> None:
    """The name on the package index is not ours."""
    root = Path(__file__).parents[3]
    sources = [*root.glob("cli/**/*.py"), *root.glob("docs/*.md"), root / "README.md"]
    for path in sources:
        text = path.read_text()
        assert "pip install penstock" not in text, path
        assert re.search(r"(?<!\./)penstock\[", text) is None, path  # a folder's name is ours
