"""The version of `pyproject.toml` is the same in every other place."""

import re
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]

#: Every other place, and how it is written there.
PLACES = {
    "docker-compose.yml": r"image: penstock-[a-z-]+:\$\{[A-Z_]+:-\$\{PENSTOCK_TAG:-([^}]+)\}\}",
    "k8s/overlays/staging/kustomization.yaml": r"newTag: (\S+)",
    "k8s/overlays/prod/kustomization.yaml": r"newTag: (\S+)",
    "docs/deployment.md": r"set_version\.py \S+ (\d[\w.]*)",
    "penstock/pyproject.toml": r'^version = "([^"]+)"',
    "tests/contract/openapi.json": r'^  "version": "([^"]+)"',
}
NUMBER = re.compile(rf"(?<![\d.]){re.escape(VERSION)}(?![\d.]*\d)")
#: Where a number like it means something else, or all versions are listed.
ELSEWHERE = {"CHANGELOG.md", "pyproject.toml"}


@pytest.mark.parametrize("place", PLACES)
def test_each_place_has_the_version(place: str) -> None:
    found = re.findall(PLACES[place], (ROOT / place).read_text(), re.MULTILINE)
    assert found, "nothing is written so any more"
    assert set(found) == {VERSION}, f"{place}: pyproject.toml says {VERSION}"


def test_what_is_installed_is_this_version() -> None:
    assert version("penstock") == VERSION, "run `make install`"


def test_the_changelog_has_the_version() -> None:
    assert f"\n## {VERSION}" in (ROOT / "CHANGELOG.md").read_text()


def test_no_other_file_has_it() -> None:
    texts = [
        *(path for path in ROOT.glob("*.*") if not path.name.startswith(".coverage")),
        *(ROOT / "scripts").iterdir(),
        *(path for top in ("docs", "k8s", "deploy") for path in (ROOT / top).rglob("*.*")),
        *(path for top in ("api", "cli", "jobs", "workers") for path in (ROOT / top).rglob("*.py")),
        ROOT / "Dockerfile",
    ]
    named = {
        str(path.relative_to(ROOT))
        for path in texts
        if path.is_file() and path.suffix not in (".png", ".pyc") and NUMBER.search(_text(path))
    }
    assert named - ELSEWHERE - set(PLACES) == set(), "name it in PLACES, or read the version there"


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")
