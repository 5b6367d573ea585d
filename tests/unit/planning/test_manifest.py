"""The `shipped` policy is the ScaledObject that `k8s/` ships."""

from pathlib import Path
from typing import Any

import yaml

from planning.policy import NAMED, SHIPPED, Behaviour
from tests.support.keda import Formula

ROOT = Path(__file__).parents[3]
MANIFEST = yaml.safe_load((ROOT / "k8s" / "model-base" / "worker-scaledobject.yaml").read_text())[
    "spec"
]


def behaviour(direction: str) -> Behaviour:
    advanced = MANIFEST["advanced"]["horizontalPodAutoscalerConfig"]["behavior"][direction]
    fields: dict[str, Any] = {"window_seconds": advanced["stabilizationWindowSeconds"]}
    assert advanced.get("selectPolicy", "Max") == "Max"
    for policy in advanced["policies"]:
        fields[policy["type"].lower()] = policy["value"]
        fields["period_seconds"] = policy["periodSeconds"]
    fields["pods"] = fields.get("pods")
    assert len({policy["periodSeconds"] for policy in advanced["policies"]}) == 1
    return Behaviour(**fields)


def test_shipped_policy_has_the_numbers_of_the_manifest() -> None:
    assert SHIPPED.polling_seconds == MANIFEST["pollingInterval"]
    assert SHIPPED.cooldown_seconds == MANIFEST["cooldownPeriod"]
    assert SHIPPED.min_replicas == MANIFEST["minReplicaCount"]
    assert SHIPPED.max_replicas == MANIFEST["maxReplicaCount"]
    assert SHIPPED.up == behaviour("scaleUp")
    assert SHIPPED.down == behaviour("scaleDown")


def test_shipped_policy_has_the_formula_of_the_manifest() -> None:
    """While no worker loads: jobs of the simulator are never cancelled, so a load has its job."""
    modifiers = MANIFEST["advanced"]["scalingModifiers"]

    assert SHIPPED.metric == "queued+running"
    formula = Formula(modifiers["formula"])
    for queued, running in ((0, 0), (5, 0), (0, 3), (5, 3)):
        value = formula.value({"queued": queued, "running": running, "loading": 0})
        assert value == queued + running
    assert SHIPPED.activation == float(modifiers["activationTarget"])
    assert modifiers["metricType"] == "AverageValue"
    assert modifiers["target"] == "SLOTS"  # replaced by the engine's slots
    assert SHIPPED.target == 1.0


def test_production_floor_is_the_warm_policy() -> None:
    patch = ROOT / "k8s" / "overlays" / "prod" / "llama-8b-scaledobject-patch.yaml"

    assert yaml.safe_load(patch.read_text())["spec"]["minReplicaCount"] == (
        NAMED["warm"].min_replicas
    )
