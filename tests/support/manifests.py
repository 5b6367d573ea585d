"""The manifests of `k8s/`, rendered by the real kustomize, and access to their objects."""

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.support.programs import program

ROOT = Path(__file__).resolve().parents[2]
OVERLAYS = ("dev", "staging", "prod", "region-b")


def kustomize() -> list[str]:
    """Return the command that renders a folder: kustomize, or the one inside kubectl."""
    for name, words in (("kustomize", ["build"]), ("kubectl", ["kustomize"])):
        found = shutil.which(name)
        if found is not None:
            return [found, *words]
    return [program("kustomize"), "build"]


@cache
def render(folder: str) -> str:
    """Return what a folder under `k8s/` renders to."""
    command = [*kustomize(), str(ROOT / "k8s" / folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr.lower(), done.stderr
    return done.stdout


@dataclass(frozen=True)
class Container:
    """One container of a pod, with every variable it gets."""

    owner: str
    pod: dict[str, Any]
    labels: dict[str, str]
    spec: dict[str, Any]
    variables: dict[str, str]

    @property
    def component(self) -> str:
        """The component of Penstock, or the store, that a pod is."""
        name = self.labels["app.kubernetes.io/name"]
        return self.labels.get("app.kubernetes.io/component", name)

    def port(self, name: str) -> int:
        """Return the number of a named port."""
        numbers = {port["name"]: int(port["containerPort"]) for port in self.spec["ports"]}
        return numbers[name]


class Manifests:
    """All objects of one overlay."""

    def __init__(self, overlay: str) -> None:
        self.overlay = overlay
        self.all: list[dict[str, Any]] = list(yaml.safe_load_all(render(f"overlays/{overlay}")))

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return the objects of a kind by name."""
        return {one["metadata"]["name"]: one for one in self.all if one["kind"] == kind}

    def containers(self, *, init: bool = True) -> Iterator[Container]:
        """Yield every container there is."""
        for one in self.all:
            template = one.get("spec", {}).get("template")
            if one["kind"] not in {"Deployment", "StatefulSet", "Job"}:
                continue
            pod, labels = template["spec"], template["metadata"]["labels"]
            for spec in [*(pod.get("initContainers", []) if init else []), *pod["containers"]]:
                owner = f"{one['kind']}/{one['metadata']['name']}"
                yield Container(owner, pod, labels, spec, self._variables(spec))

    def _variables(self, spec: dict[str, Any]) -> dict[str, str]:
        """Return a container's variables; those from a secret have its name and key as value."""
        found: dict[str, str] = {}
        for source in spec.get("envFrom", []):
            found |= self.of("ConfigMap")[source["configMapRef"]["name"]]["data"]
        for variable in spec.get("env", []):
            secret = variable.get("valueFrom", {}).get("secretKeyRef")
            value = f"secret:{secret['name']}/{secret['key']}" if secret else variable["value"]
            found[variable["name"]] = value
        return found


def matches(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a label selector takes these labels."""
    for name, value in selector.get("matchLabels", {}).items():
        if labels.get(name) != value:
            return False
    for term in selector.get("matchExpressions", []):
        assert term["operator"] == "In", "only In is read here"
        if labels.get(term["key"]) not in term["values"]:
            return False
    return True
