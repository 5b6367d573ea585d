"""The rules, the Alertmanager example and the dashboard are valid for their own tools."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.processes import ROOT
from tests.support.programs import program
from tests.support.prometheus import DEPLOYED, rules_of

ALERTS = {rule["alert"] for rule in rules_of("alerts")}


def run(name: str, *words: str, cwd: Path = DEPLOYED) -> str:
    done = subprocess.run(
        [program(name), *words], cwd=cwd, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_rules_and_configuration_are_valid() -> None:
    said = run("promtool", "check", "config", "prometheus.yml")
    assert "SUCCESS" in said
    assert "recording.yml" in said
    assert "alerts.yml" in said


@pytest.mark.parametrize("name", ["alerts", "objectives", "slow_burns", "scaling"])
def test_each_rule_does_as_written(name: str) -> None:
    assert "SUCCESS" in run("promtool", "test", "rules", f"{name}.yml", cwd=DEPLOYED / "tests")


def test_no_alert_is_without_both_its_tests() -> None:
    fires: set[str] = set()
    quiet: set[str] = set()
    for file in (DEPLOYED / "tests").glob("*.yml"):
        for test in yaml.safe_load(file.read_text())["tests"]:
            for expected in test.get("alert_rule_test", []):
                (fires if expected["exp_alerts"] else quiet).add(expected["alertname"])
    assert fires == quiet == ALERTS


def test_alertmanager_sends_pages_to_the_person_on_call() -> None:
    file = "--config.file=alertmanager.yml"
    assert "SUCCESS" in run("amtool", "check-config", "alertmanager.yml")
    page = run("amtool", "config", "routes", "test", file, "severity=page")
    ticket = run("amtool", "config", "routes", "test", file, "severity=ticket")
    assert (page.strip(), ticket.strip()) == ("on-call", "channel")


def test_severities_are_those_that_are_routed() -> None:
    severities = {rule["labels"]["severity"] for rule in rules_of("alerts")}
    assert severities == {"page", "ticket", "info"}


def test_panels_do_not_overlap_and_ask_the_provisioned_data_source() -> None:
    folder = ROOT / "deploy/grafana"
    dashboard = json.loads((folder / "dashboards/penstock.json").read_text())
    sources = yaml.safe_load((folder / "provisioning/datasources/penstock.yml").read_text())
    uids = {source["uid"] for source in sources["datasources"]}
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {
            (place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        assert all(x < 24 for x, _ in cells), panel["title"]
        taken |= cells
        assert panel["type"] == "row" or panel["datasource"]["uid"] in uids
    trace = sources["datasources"][0]["jsonData"]["exemplarTraceIdDestinations"][0]
    assert trace["datasourceUid"] in uids
    assert re.fullmatch(r"[a-z_]+", trace["name"])
