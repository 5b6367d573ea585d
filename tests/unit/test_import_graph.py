"""Folders import each other in one direction only, and the drawn graph is up to date."""

from collections import Counter
from pathlib import Path

from tests.support.import_graph import (
    PICTURE,
    ROOT,
    draw,
    folder_graph,
    modules,
    package_graph,
    ranks,
)

#: A folder with more modules is split by concern.
MOST_MODULES = 22
#: Packages below the entry points; they import none of them.
LOWER = ("core", "jobs", "accounts", "webhooks", "billing", "wire", "files", "intake", "batches")


def test_no_two_folders_import_each_other_in_a_circle() -> None:
    assert ranks(folder_graph())["core/redis"] < ranks(folder_graph())["api/routes"]


def test_no_two_packages_import_each_other_in_a_circle() -> None:
    graph = package_graph(folder_graph())
    assert ranks(graph)["core"] == 0
    assert not {"cli", "bench", "api", "workers"} & set().union(*(graph[low] for low in LOWER))


def test_the_picture_shows_the_imports_of_today() -> None:
    assert PICTURE.read_text() == draw(package_graph(folder_graph())), (
        "draw it again: python -m tests.support.import_graph"
    )


def test_folders_are_small() -> None:
    sizes = Counter(path.parent for path in modules().values() if not path.name.startswith("__"))
    large = {str(folder.relative_to(ROOT)): n for folder, n in sizes.items() if n > MOST_MODULES}
    assert not large


def test_every_package_is_looked_at() -> None:
    tops = {path.name for path in Path(ROOT).iterdir() if (path / "__init__.py").exists()}
    assert tops - {"tests"} == {name.partition(".")[0] for name in modules()}
