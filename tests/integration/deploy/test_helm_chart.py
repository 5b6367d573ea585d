"""The Helm chart, rendered by Helm itself, is what the overlays are."""

import re
from pathlib import Path
from typing import Any

import helm_python
import pytest
import yaml

from scripts.helm_chart import env, write
from tests.integration.deploy.test_manifests import validate
from tests.support.manifests import ROOT, Manifests

MODEL = "llama-8b"
SETTINGS = env(f"models/{MODEL}/model.env")

#: The overlays as values. What is not here is the chart's default.
VALUES: dict[str, dict[str, Any]] = {
    "prod": {
        "monitoring": {"enabled": True},
        "api": {"minReplicas": 3, "maxReplicas": 20},
        "models": {
            MODEL: {
                "settings": SETTINGS,
                "minReplicas": 1,
                "maxReplicas": 32,
                "fallbackReplicas": 2,
                "cooldownSeconds": 720,
            }
        },
    },
    "staging": {
        "host": "staging.penstock.example.com",
        "redis": {"enabled": True},
        "postgres": {"enabled": True},
        "monitoring": {"enabled": True},
        "certificates": {"enabled": True},
        "gateway": {"enabled": True},
        "api": {"minReplicas": 2, "maxReplicas": 4},
        "replicas": {"control": 1, "deliverer": 1, "feeder": 1, "ledger": 1},
        "models": {MODEL: {"settings": SETTINGS, "maxReplicas": 2}},
    },
}

Objects = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chart") / "penstock"
    write(folder)
    return folder


def rendered(chart: Path, values: dict[str, Any], namespace: str = "penstock") -> Objects:
    """Return what `helm template` gives, by kind and name."""
    with helm_python.Chart.load(str(chart)) as loaded:
        texts = loaded.render(values, name="penstock", namespace=namespace)
    manifests = (text for name, text in texts.items() if name.endswith(".yaml"))
    objects = [one for text in manifests for one in yaml.safe_load_all(text) if one]
    found = {(one["kind"], one["metadata"]["name"]): one for one in objects}
    assert len(found) == len(objects), "no object is there twice"
    return found


def without_hashes(manifests: Manifests) -> Objects:
    """Return an overlay without the hashes in names, and without its namespace."""
    generated = rf"(penstock-(?:settings|worker-settings|models|model-{MODEL}))-[0-9a-z]{{10}}\b"
    text = re.sub(generated, r"\1", yaml.safe_dump_all(manifests.all))
    objects = (one for one in yaml.safe_load_all(text) if one["kind"] != "Namespace")
    return {(one["kind"], one["metadata"]["name"]): one for one in objects}


@pytest.mark.parametrize("overlay", VALUES)
def test_it_renders_to_the_objects_of_the_overlay(chart: Path, overlay: str) -> None:
    manifests = Manifests(overlay)
    (namespace,) = manifests.of("Namespace")
    wanted, found = without_hashes(manifests), rendered(chart, VALUES[overlay], namespace)
    assert set(found) == set(wanted)
    for key, one in found.items():
        template = one["spec"].get("template", {}) if key[0] == "Deployment" else {}
        if template:
            assert template["metadata"].pop("annotations").keys() == {"checksum/settings"}
        if key == ("ConfigMap", "penstock-models"):
            for objects in (one, wanted[key]):
                text = objects["data"]["PENSTOCK_CONTROL__MODELS"]
                objects["data"]["PENSTOCK_CONTROL__MODELS"] = yaml.safe_load(text)
        assert one == wanted[key], key


def test_everything_together_is_valid_with_several_models(chart: Path) -> None:
    small = {**SETTINGS, "PENSTOCK_ENGINE__SERVED_NAME": "small", "PENSTOCK_ENGINE__SLOTS": "16"}
    values = {
        **VALUES["staging"],
        "image": {"registry": "example.com/team", "tag": "9.9.9-rc.1"},
        "models": {
            MODEL: {"settings": SETTINGS},
            "small": {"settings": small, "nodeSelector": {"gpu": "small"}, "cacheSize": "8Gi"},
        },
    }
    objects = rendered(chart, values)
    for one in objects.values():
        validate(one)
    assert ("Job", "penstock-migrate-9-9-9-rc-1") in objects
    pod = objects["Deployment", "penstock-worker-small"]["spec"]["template"]["spec"]
    assert pod["nodeSelector"] == {"gpu": "small"}
    assert pod["containers"][0]["image"] == "example.com/team/penstock-worker:9.9.9-rc.1"
    triggers = objects["ScaledObject", "penstock-worker-small"]["spec"]["triggers"]
    names = {trigger["metadata"]["listName"] for trigger in triggers}
    assert names == {f"penstock:q:small:{part}" for part in ("ready", "running", "loading")}
    declared = objects["ConfigMap", "penstock-models"]["data"]["PENSTOCK_CONTROL__MODELS"]
    assert set(yaml.safe_load(declared)) == {MODEL, "small"}


def test_a_change_restarts_the_pods_that_use_it(chart: Path) -> None:
    def sums(values: dict[str, Any]) -> dict[str, str]:
        return {
            name: one["spec"]["template"]["metadata"]["annotations"]["checksum/settings"]
            for (kind, name), one in rendered(chart, values).items()
            if kind == "Deployment"
        }

    before = sums(VALUES["prod"])
    others = sums({**VALUES["prod"], "settings": {"PENSTOCK_LOG__LEVEL": "DEBUG"}})
    workers = sums({**VALUES["prod"], "workerSettings": {"PENSTOCK_LOG__LEVEL": "DEBUG"}})
    changed = {name for name in before if before[name] != others[name]}
    assert changed == {name for name in before if not name.startswith("penstock-worker")}
    assert {name for name in before if before[name] != workers[name]} == set(before) - changed


def test_helm_finds_nothing_wrong_with_it(chart: Path) -> None:
    found = helm_python.lint(str(chart))
    assert not found["errors"]
    assert [one["error"] for one in found["messages"]] == ["icon is recommended"]
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert yaml.safe_load((chart / "Chart.yaml").read_text())["version"] == version[1]
