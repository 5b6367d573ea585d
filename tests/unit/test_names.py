"""A class name, and a module name outside of parallel folders, stands for one thing."""

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Folders whose classes are not the application's.
OTHERS = {"tests", "models", ".venv", "build", "node_modules"}
#: Names that may stand twice, with the reason. Empty is best.
ALLOWED: dict[str, str] = {}


def test_class_names_are_unique() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in ROOT.rglob("*.py"):
        relative = path.relative_to(ROOT)
        if relative.parts[0] in OTHERS:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(str(relative))
    shared = {name: files for name, files in places.items() if len(files) > 1}
    assert {name: files for name, files in shared.items() if name not in ALLOWED} == {}


#: Parallel folders: the module of a noun stands in each, and the folder says what it holds of it.
PARALLEL = (
    "api/routes",
    "bench/figures",
    "billing/reconcile",
    "cli/checks",
    "cli/commands",
    "cli/commands/bills",
    "cli/connect",
    "core/db/tables",
    "core/settings",
    "wire/schemas",
    "wire/views",
)
#: Names that every package may use, with the same meaning in each.
COMMON = {"__init__", "__main__", "errors"}
#: Other names that stand twice: one idea, whose package says whose it is.
SAME_IDEA = {
    "base": "the protocol or class that the other modules of its folder implement",
    "celery_app": "starts the package's Celery process",
    "events": "the events of jobs; the events that webhooks report",
    "ids": "the ids of all kinds; those that follow from a batch's id",
    "metrics_collector": "values that the package's process reads at each scrape",
    "records": "the package's rows as frozen dataclasses",
    "rejections": "turns refusals of the job store, or of vLLM, into errors",
    "repository": "reads and writes the package's rows",
    "tickets": "the package's Celery messages",
}


def test_a_module_name_stands_for_one_idea() -> None:
    places: dict[str, list[str]] = defaultdict(list)
    for path in ROOT.rglob("*.py"):
        relative = path.relative_to(ROOT)
        if relative.parts[0] not in OTHERS and relative.parent.as_posix() not in PARALLEL:
            places[relative.stem].append(str(relative))
    shared = {name: files for name, files in places.items() if len(files) > 1}
    assert {n: files for n, files in shared.items() if n not in COMMON | SAME_IDEA.keys()} == {}
    assert SAME_IDEA.keys() <= shared.keys(), "a name that stands once needs no reason"
