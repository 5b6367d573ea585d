"""`.env.example` and `docs/settings.md` are what the settings say, and the file can be used."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from core.settings.engine import TINY_MODEL
from core.settings.tree import Settings
from tests.support.settings_reference import (
    ENV_EXAMPLE,
    PAGE,
    env_example,
    groups,
    page,
    written,
)

PREFIX = "#PENSTOCK_"


def defaults(group: BaseModel, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, value in group:
        if isinstance(value, BaseModel):
            yield from defaults(value, (*path, name))
        else:
            yield "PENSTOCK_" + "__".join((*path, name)).upper(), value


def listed() -> dict[str, str]:
    lines = ENV_EXAMPLE.read_text().splitlines()
    return dict(line[1:].partition("=")[::2] for line in lines if line.startswith(PREFIX))


def test_files_are_those_that_make_settings_writes() -> None:
    assert ENV_EXAMPLE.read_text() == env_example()
    assert PAGE.read_text() == page()


def test_file_lists_every_setting_with_its_default() -> None:
    settings = Settings(_env_file=None)

    assert listed() == {name: written(value) for name, value in defaults(settings)}


def test_every_setting_says_what_it_means() -> None:
    for group in groups():
        for setting in group.settings:
            assert setting.text.endswith("."), setting.variable


def test_lists_and_objects_are_json() -> None:
    for name, value in defaults(Settings(_env_file=None)):
        if isinstance(value, list | dict):
            assert json.loads(listed()[name]) == value


def test_uncommented_file_gives_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {name: value for name, value in listed().items() if value}
    given["PENSTOCK_ENGINE__MODEL"] = str(TINY_MODEL)
    file = tmp_path / ".env"
    file.write_text("".join(f"{name}={value}\n" for name, value in given.items()))
    monkeypatch.chdir(tmp_path)

    read = Settings(_env_file=file)

    assert read == Settings(_env_file=None)
