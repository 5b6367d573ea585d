"""docs/operations.md lists exactly the metrics and alerts of the code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from click import Context
from prometheus_client import REGISTRY
from typer.main import get_command

from cli.main import app
from tests.support.processes import ROOT
from tests.support.prometheus import rules_of

PAGE = (ROOT / "docs/operations.md").read_text()
PACKAGES = (
    "core",
    "jobs",
    "accounts",
    "billing",
    "webhooks",
    "wire",
    "intake",
    "files",
    "batches",
    "workers",
    "api",
)
KINDS = {"Counter", "Gauge", "Histogram", "_gauge", "_labelled"}
FAMILIES = {"GaugeMetricFamily", "CounterMetricFamily", "InfoMetricFamily"}
SUFFIXES = re.compile(r"_(bucket|count|sum)$")
NAME = re.compile(r"penstock_[a-z0-9_]+")


def _calls(path: Path) -> Iterator[str]:
    """Yield the names of the metrics that a module makes."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and node.args:
            function = node.func
            named = function.attr if isinstance(function, ast.Attribute) else ""
            called = function.id if isinstance(function, ast.Name) else named
            first = node.args[0]
            name = first.value if isinstance(first, ast.Constant) else None
            if called in KINDS | FAMILIES and isinstance(name, str):
                yield f"{name}_info" if "Info" in called else name
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            texts = [n.value for n in ast.walk(node.value) if isinstance(n, ast.Constant)]
            if isinstance(node.value, ast.Tuple):
                yield from (t for t in texts if isinstance(t, str) and NAME.fullmatch(t))


def in_the_code() -> set[str]:
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return {name for path in files for name in _calls(path) if name.startswith("penstock_")}


def listed() -> set[str]:
    return set(re.findall(r"^\| `(penstock_[a-z0-9_]+)` \|", PAGE, re.MULTILINE))


def test_every_metric_is_listed_and_every_listed_one_exists() -> None:
    assert listed() == in_the_code()


def test_rules_ask_only_for_metrics_there_are() -> None:
    everything = rules_of("alerts") + rules_of("recording")
    asked = {name for rule in everything for name in NAME.findall(rule["expr"])}
    assert {SUFFIXES.sub("", name) for name in asked} <= listed()


def test_names_have_our_prefix_and_a_unit_where_they_have_one() -> None:
    for name in listed():
        assert not re.search(r"_(ms|milliseconds|percent|micros)(_|$)", name), name
    ours = [family.name for family in REGISTRY.collect() if family.name.startswith("penstock")]
    assert set(ours) <= {"penstock_spans"}, "each kind of process shows its own registry"


def test_every_alert_has_its_runbook() -> None:
    headings = set(re.findall(r"^### (Penstock\w+)$", PAGE, re.MULTILINE))
    alerts = {rule["alert"]: rule for rule in rules_of("alerts")}
    assert headings == set(alerts)
    for name, rule in alerts.items():
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"


def test_links_within_the_page_lead_somewhere() -> None:
    anchors = {
        re.sub(r"[^a-z0-9-]", "", title.lower().replace(" ", "-"))
        for title in re.findall(r"^#+ (.+)$", PAGE, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([a-z0-9-]+)\)", PAGE)) <= anchors


def test_commands_that_it_names_exist() -> None:
    groups = get_command(app)
    context = Context(groups)
    named = set(re.findall(r"`penstock ([a-z-]+)(?: ([a-z-]+))?[^`]*`", PAGE))
    assert len(named) > 4
    for group, command in named:
        found = groups.get_command(context, group)  # type: ignore[attr-defined]
        assert found is not None, group
        assert not command or command in found.commands, (group, command)
