"""Names and texts that others chose are only text on the terminal of the person who lists them."""

import io
from pathlib import Path

import pytest
from rich.console import Console

import cli
from cli.terminal import output
from cli.terminal.failures import Failure
from cli.terminal.plain_console import PlainConsole, styled

HOSTILE = [
    "[/x]",
    "[link=https://evil.example]click[/link]",
    "[bold red]error:[/]",
    "[blink]x",
    "a\\[b]",
    ":bomb:",
    "[",
    "[@click=quit]x[/]",
]
#: Moves the cursor, clears the screen, sets the title, and turns text around.
COMMANDS = ["\x1b[2J", "\x1b]0;title\x07", "\x9b2J", "\r\x1b[1A", "\u202etxt.exe"]
NARROW, WIDE = 30, 400


def printed(monkeypatch: pytest.MonkeyPatch, text: str, width: int) -> str:
    """What a terminal of this width gets of a table and a message, without its own styles."""
    file = io.StringIO()
    console = PlainConsole(file=file, force_terminal=True, width=width, color_system=None)
    monkeypatch.setattr(output, "out", console)
    monkeypatch.setattr(output, "err", console)
    rows = [("acc_1", text), ("acc_2", styled((text, "green")))]
    output.print_table(("id", "name of the account"), rows, nothing="none")
    console.print(f"{text} was changed.", soft_wrap=True)
    console.print(styled("of ", (text, "red")), soft_wrap=True)
    output.print_failure(Failure(text, text))
    return file.getvalue()


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_a_name_is_printed_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str, width: int
) -> None:
    shown = printed(monkeypatch, text, width) + capsys.readouterr().out
    assert shown.count(text) == 6


@pytest.mark.parametrize("text", COMMANDS, ids=ascii)
def test_a_terminal_gets_no_commands(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    shown = printed(monkeypatch, text, NARROW)
    assert shown
    assert all(character.isprintable() or character == "\n" for character in shown)


def test_a_pipe_gets_the_text_of_a_job_unchanged() -> None:
    file = io.StringIO()
    PlainConsole(file=file).print("\x1b[1mbold", soft_wrap=True)
    assert file.getvalue() == "\x1b[1mbold\n"


def test_no_command_uses_another_console() -> None:
    """Markup is off in `PlainConsole` only, and a progress bar has to be told."""
    for path in Path(cli.__file__).parent.rglob("*.py"):
        source = path.read_text()
        if path.name != "plain_console.py":
            assert "= Console(" not in source, path
            assert "from_markup" not in source, path
        columns = source.count("TextColumn(")
        constant = source.count('TextColumn("uploading")') + source.count('"downloading")')
        assert columns == constant + source.count("markup=False)"), path
    assert issubclass(PlainConsole, Console)
