"""`.env.example` lists exactly the settings there are, with their defaults."""

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from core.settings import TINY_MODEL, Settings

ROOT = Path(__file__).resolve().parents[3]
LINES = (ROOT / ".env.example").read_text().splitlines()
PREFIX = "#PENSTOCK_"


def defaults(group: BaseModel, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, value in group:
        if isinstance(value, BaseModel):
            yield from defaults(value, (*path, name))
        else:
            yield "PENSTOCK_" + "__".join((*path, name)).upper(), value


def written(value: Any) -> str:
    """Return how a value is written in the file."""
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if value == str(TINY_MODEL):
        return str(TINY_MODEL.relative_to(ROOT))
    if isinstance(value, bool | dict | list):
        return json.dumps(value)
    return "" if value is None else str(value)


def listed() -> dict[str, str]:
    pairs = (line[1:].partition("=")[::2] for line in LINES if line.startswith(PREFIX))
    return dict(pairs)


def test_file_lists_every_setting_with_its_default_in_order() -> None:
    settings = Settings(_env_file=None)

    assert list(listed().items()) == [(name, written(value)) for name, value in defaults(settings)]


def test_every_setting_has_one_line_of_comment() -> None:
    for before, line in pairwise(LINES):
        if line.startswith(PREFIX):
            assert before.startswith("# "), line
            assert len(before) <= 100


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
