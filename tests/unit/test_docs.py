"""The links, file names, commands and defaults in README.md and docs/ are correct."""

import os
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click import Context
from pydantic import BaseModel, SecretStr
from typer.main import get_command

from cli.main import app
from core.settings.tree import Settings

ROOT = Path(__file__).resolve().parents[2]
POLICIES = [ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md")]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *POLICIES]
LINK = re.compile(r"\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)")
FILE = re.compile(r"`((?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:py|lua|yml|yaml|md|toml|lock))`")
TEST = re.compile(r"`(?:tests/)?(?:\w+/)*(test_\w+)(?:\.py)?`")
VARIABLE = re.compile(r"PENSTOCK_[A-Z_]*[A-Z]")
SETTING = re.compile(r"`([a-z]+(?:\.[a-z_]+)+)(?:=[^`]*)?`(?: \(([\d.]+)( s| h|)[);,])?")
COMMAND = re.compile(r"(?<!-n )\bpenstock ((?:[a-z][a-z-]*(?![\w./-]) ?)+)([^`\n#|(]*)")
OTHERS = {".git", ".venv", ".penstock", ".hypothesis", "node_modules", "site", "__pycache__"}
#: Calls of OpenAI's clients look like settings.
CALLS = {"files", "batches"}
#: No paths of ours: a media type, a device, and paths as seen from where they are used.
ELSEWHERE = {
    "text/event-stream",
    "nvidia.com/gpu",
    "../../components/tracing",
    ".venv/bin",
    "site/",
}

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@cache
def tree() -> frozenset[str]:
    """Return all paths of the repository that a page may name."""
    found = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in OTHERS]
        found += [f"{folder}/{name}" for name in (*folders, *files)]
    return frozenset(found)


def defaults(group: BaseModel, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each setting, as pages write it, with its default."""
    for name, value in group:
        if isinstance(value, BaseModel):
            yield from defaults(value, f"{path}{name}.")
        else:
            yield path + name, value.get_secret_value() if isinstance(value, SecretStr) else value


SETTINGS = dict(defaults(Settings(_env_file=None)))
GROUPS = {name.partition(".")[0] for name in SETTINGS}


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w-]", "", title.lower().replace(" ", "-")) for title in titles}


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for path, anchor in LINK.findall(page.read_text()):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


@pages
def test_files_that_are_named_exist(page: Path) -> None:
    for path in set(FILE.findall(page.read_text())) - ELSEWHERE:
        assert any(one.endswith(f"/{path.rstrip('/')}") for one in tree()), path


@pages
def test_tests_that_are_named_exist(page: Path) -> None:
    for name in TEST.findall(page.read_text()):
        assert any(one.endswith((f"/{name}.py", f"/{name}")) for one in tree()), name


@pages
def test_variables_that_are_named_are_read(page: Path) -> None:
    files = (".env.example", "docker-compose.yml", "docs/settings.md")  # the page has old names too
    known = "".join((ROOT / name).read_text() for name in files)
    for name in VARIABLE.findall(page.read_text()):
        assert re.search(rf"\b{name}(__|\b)", known), name


@pages
def test_commands_that_are_named_exist_and_take_these_options(page: Path) -> None:
    code = "\n".join(
        re.findall(r"^(?: {4}|penstock ).*$|`[^`\n]+`", page.read_text(), re.MULTILINE)
    )
    for words, rest in COMMAND.findall(code):
        command: Any = get_command(app)
        for word in words.split():
            if not hasattr(command, "get_command"):
                break  # an argument
            command = command.get_command(Context(command), word)
            assert command is not None, f"penstock {words}"
        taken = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
        assert set(re.findall(r"--[a-z-]+", rest)) <= taken | {"--help"}, f"penstock {words}{rest}"


@pages
def test_settings_that_are_named_exist_and_have_that_default(page: Path) -> None:
    for name, number, unit in SETTING.findall(page.read_text()):
        group = name.partition(".")[0]
        if group in GROUPS and not (page.name == "api.md" and group in CALLS):
            assert name in SETTINGS, name
            seconds = 3600 if unit == " h" else 1
            assert not number or float(SETTINGS[name]) == float(number) * seconds, name


def test_the_readme_can_be_read_at_once() -> None:
    assert len(PAGES[0].read_text().splitlines()) < 150
