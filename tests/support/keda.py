"""What KEDA does with a ScaledObject, as far as the tests need it: formulas, names, replicas.

Written from KEDA's documentation; a formula that uses more of its language than this knows fails.
"""

import ast
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

#: The namespace that KEDA's operator runs in and resolves names in.
KEDA_NAMESPACE = "keda"
CLUSTER_DOMAIN = "cluster.local"


class Formula:
    """A `scalingModifiers.formula`: names of triggers, `+`, `>`, `max()` and one `? :`."""

    def __init__(self, text: str) -> None:
        condition, found, choice = text.partition(" ? ")
        if found:
            chosen, _, other = choice.partition(" : ")
            text = f"({chosen}) if ({condition}) else ({other})"
        self._root = ast.parse(text, mode="eval").body

    @property
    def names(self) -> set[str]:
        """The triggers that it uses."""
        called = {id(node.func) for node in ast.walk(self._root) if isinstance(node, ast.Call)}
        return {
            node.id
            for node in ast.walk(self._root)
            if isinstance(node, ast.Name) and id(node) not in called
        }

    def value(self, metrics: Mapping[str, float]) -> float:
        """Return its value for the triggers' metrics."""
        return self._value(self._root, metrics)

    def _value(self, node: ast.expr, metrics: Mapping[str, float]) -> float:
        match node:
            case ast.Name(id=name):
                return metrics[name]
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return self._value(left, metrics) + self._value(right, metrics)
            case ast.Compare(left=left, ops=[ast.Gt()], comparators=[right]):
                return self._value(left, metrics) > self._value(right, metrics)
            case ast.IfExp(test=test, body=body, orelse=other):
                chosen = body if self._value(test, metrics) else other
                return self._value(chosen, metrics)
            case ast.Call(func=ast.Name(id="max"), args=parts, keywords=[]):
                return max(self._value(part, metrics) for part in parts)
        raise AssertionError(f"this is not known of KEDA's formulas: {ast.dump(node)}")


@dataclass(frozen=True)
class Policy:
    """How many replicas a ScaledObject asks for."""

    formula: Formula
    target: float
    threshold: float

    @classmethod
    def of(cls, scaled: Mapping[str, Any]) -> "Policy":
        """Read it from a ScaledObject's spec."""
        modifiers = scaled["advanced"]["scalingModifiers"]
        threshold = float(modifiers["activationTarget"])
        return cls(Formula(modifiers["formula"]), float(modifiers["target"]), threshold)

    def replicas(self, metrics: Mapping[str, float]) -> int:
        """Return the replicas asked for: none only while the formula is not active."""
        value = self.formula.value(metrics)
        return math.ceil(value / self.target) if value > self.threshold else 0


def resolve(
    host: str, namespace: str, services: Collection[tuple[str, str]]
) -> tuple[str, str] | None:
    """Resolve a host name as a pod of a namespace does.

    Args:
        host: The name, of any number of parts.
        namespace: The namespace of the pod that asks; it begins the search list.
        services: (namespace, name) of every Service.

    Returns:
        Namespace and name of the Service; None if the name is no Service of the cluster.
    """
    known = {f"{name}.{home}.svc.{CLUSTER_DOMAIN}": (home, name) for home, name in services}
    search = (f"{namespace}.svc.{CLUSTER_DOMAIN}", f"svc.{CLUSTER_DOMAIN}", CLUSTER_DOMAIN)
    candidates = [host.rstrip("."), *(f"{host}.{suffix}" for suffix in search)]
    return next((known[name] for name in candidates if name in known), None)


def scale_down_seconds(scaled: Mapping[str, Any]) -> float:
    """Return how long the autoscaler takes from the most replicas to one without any work."""
    down = scaled["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    (policy,) = down["policies"]
    assert policy["type"] == "Percent", "one policy, in percent, is all that is known here"
    replicas, steps = int(scaled["maxReplicaCount"]), 0
    while replicas > 1:
        replicas = max(1, math.ceil(replicas * (1 - policy["value"] / 100)))
        steps += 1
    return float(down["stabilizationWindowSeconds"] + steps * policy["periodSeconds"])
