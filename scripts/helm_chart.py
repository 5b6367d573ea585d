"""`make chart`: makes the Helm chart from the manifests of `k8s/`, so that both are the same.

    python3 scripts/helm_chart.py dist/chart

It renders the base with each component, and writes what differs under a condition. A test compares
the chart, rendered by Helm, with the overlays. Needs PyYAML and kustomize.
"""

# ruff: noqa: INP001, S603, T201 - it prints to the terminal and runs kustomize

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
K8S = ROOT / "k8s"
#: The parts of the chart that are not made from the manifests.
PARTS = ROOT / "deploy" / "helm"
NAMESPACE = "chart-namespace"
#: The model whose manifests become the template of every model.
MODEL = "llama-8b"
PROCESSES = ("control", "deliverer", "feeder", "ledger")
GENERATED = ("penstock-settings", "penstock-worker-settings", "penstock-models", "penstock-model")
HASH = re.compile(rf"\b({'|'.join(GENERATED)})((?:-{MODEL})?)-[0-9a-z]{{10}}\b")

Key = tuple[str, str]
Objects = dict[Key, dict[str, Any]]


def render(*components: str, model: bool = False) -> Objects:
    """Return what the base, with components and perhaps the model, renders to."""
    with tempfile.TemporaryDirectory(dir=ROOT) as folder:

        def place(path: str) -> str:
            return os.path.relpath(K8S / path, folder)

        kustomization = {
            "apiVersion": "kustomize.config.k8s.io/v1beta1",
            "kind": "Kustomization",
            "namespace": NAMESPACE,
            "resources": [place("base"), *([place(f"models/{MODEL}")] if model else [])],
            "components": [place(f"components/{name}") for name in components],
        }
        Path(folder, "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
        tool = ["kustomize", "build"] if shutil.which("kustomize") else ["kubectl", "kustomize"]
        done = subprocess.run([*tool, folder], capture_output=True, text=True, check=True)
    text = HASH.sub(r"\1\2", done.stdout).replace("redis.NAMESPACE.svc", f"redis.{NAMESPACE}.svc")
    objects = [one for one in yaml.safe_load_all(text) if one]
    return {(one["kind"], one["metadata"]["name"]): one for one in objects}


def env(path: str) -> dict[str, str]:
    """Return the variables of an env file under `k8s/`."""
    lines = (K8S / path).read_text().splitlines()
    pairs = (line.partition("=") for line in lines if line and not line.startswith("#"))
    return {name: value for name, _, value in pairs}


def dumped(one: dict[str, Any]) -> str:
    """Return an object as a template: its own braces are escaped, ours are put in."""
    text = yaml.safe_dump(one, sort_keys=False, width=10_000, allow_unicode=True)
    text = text.replace("{{", "{{ `{{` }}")
    text = text.replace(NAMESPACE, "{{ $.Release.Namespace }}")
    text = text.replace("penstock.example.com", "{{ $.Values.host }}")
    image = r'\1{{ include "penstock.image" (list $ "\2") }}'
    return re.sub(r"^( +(?:- )?image: )(penstock-[a-z-]+)$", image, text, flags=re.MULTILINE)


def either(condition: str, yes: str, no: str = "") -> str:
    """Return a template that is one text or the other."""
    other = f"{{{{- else }}}}\n{no}" if no else ""
    return f"{{{{- if {condition} }}}}\n{yes}{other}{{{{- end }}}}\n"


def with_data(text: str, data: str) -> str:
    """Return a ConfigMap whose data are an expression."""
    return re.sub(
        r"^data:\n(?: .*\n)+", f"data:\n  {{{{- {data} | nindent 2 }}}}\n", text, flags=re.MULTILINE
    )


def with_checksum(text: str, values: str) -> str:
    """Return a Deployment whose pods are replaced when these values change."""
    note = (
        "    metadata:\n      annotations:\n"
        f"        checksum/settings: {{{{ toJson (list {values}) | sha256sum }}}}\n"
    )
    return text.replace("  template:\n    metadata:\n", f"  template:\n{note}", 1)


def _deployment(name: str, text: str) -> str:
    part = name.removeprefix("penstock-")
    values = "$.Values.settings" + (" $.Values.models" if part == "control" else "")
    text = with_checksum(text, values)
    if part in PROCESSES:
        text = text.replace("replicas: 2", f"replicas: {{{{ $.Values.replicas.{part} }}}}", 1)
    return text


def _autoscaler(_: str, text: str) -> str:
    for limit in ("min", "max"):
        value = f"{limit}Replicas: {{{{ $.Values.api.{limit}Replicas }}}}"
        text = re.sub(rf"{limit}Replicas: \d+", value, text)
    return text


def _migration(_: str, text: str) -> str:
    version = '{{ include "penstock.tag" $ | replace "." "-" | lower }}'
    return text.replace("name: penstock-migrate\n", f"name: penstock-migrate-{version}\n", 1)


def _ingress(_: str, text: str) -> str:
    tls = "  tls:\n  - hosts: [{{ $.Values.host | quote }}]\n    secretName: penstock-tls\n"
    return text + either("$.Values.ingress.tls", tls)


def _config_map(name: str, text: str) -> str:
    models = 'dict "PENSTOCK_CONTROL__MODELS" (include "penstock.models" $) | toYaml'
    data = {
        "penstock-settings": "toYaml $.Values.settings",
        "penstock-worker-settings": "toYaml $.Values.workerSettings",
        "penstock-models": models,
    }
    return with_data(text, data[name]) if name in data else text


def _gateway(_: str, text: str) -> str:
    value = "gatewayClassName: {{ $.Values.gateway.className }}"
    return re.sub(r"gatewayClassName: \S+", value, text)


SPECIAL = {
    "ConfigMap": _config_map,
    "Deployment": _deployment,
    "Gateway": _gateway,
    "HorizontalPodAutoscaler": _autoscaler,
    "Ingress": _ingress,
    "Job": _migration,
}
#: Texts of the manifests that are values of the chart, wherever they stand.
EVERYWHERE = {
    "envoy-gateway-system": "{{ $.Values.gateway.namespace }}",
    "ingress-nginx": "{{ $.Values.ingress.namespace }}",
    "lassName: nginx": "lassName: {{ $.Values.ingress.className }}",
    "10.20.0.0/24": "{{ $.Values.externalStores.redisNetwork }}",
    "10.20.1.0/24": "{{ $.Values.externalStores.databaseNetwork }}",
}


def own(one: dict[str, Any]) -> str:
    """Return an object that every installation has once, with the values that users may set."""
    text = dumped(one)
    if one["kind"] in SPECIAL:
        text = SPECIAL[one["kind"]](one["metadata"]["name"], text)
    for written, value in EVERYWHERE.items():
        text = text.replace(written, value)
    return text


NODE_SELECTOR = """      {{- with $model.nodeSelector }}
      nodeSelector:
        {{- toYaml . | nindent 8 }}
      {{- end }}
"""
RESOURCES = re.compile(r"^( +)resources:\n(?:\1 .*\n)+", re.MULTILINE)


def _workers(text: str) -> str:
    text = with_checksum(text, "$.Values.workerSettings $model.settings")
    text = RESOURCES.sub(r"\1resources:\n\1  {{- toYaml $model.resources | nindent 10 }}\n", text)
    text = text.replace("sizeLimit: 64Gi", "sizeLimit: {{ $model.cacheSize }}")
    return text.replace("      tolerations:\n", f"{NODE_SELECTOR}      tolerations:\n", 1)


def _scaled(text: str) -> str:
    served = "{{ $model.settings.PENSTOCK_ENGINE__SERVED_NAME }}"
    text = text.replace("penstock:q:{{ $name }}:", f"penstock:q:{served}:")
    numbers = {
        r"(target|listLength): '\d+'": "{{ $model.settings.PENSTOCK_ENGINE__SLOTS | quote }}",
        r"(cooldownPeriod): \d+": "{{ $model.cooldownSeconds }}",
        r"(minReplicaCount): \d+": "{{ $model.minReplicas }}",
        r"(maxReplicaCount): \d+": "{{ $model.maxReplicas }}",
        r"(    replicas): \d+": "{{ $model.fallbackReplicas }}",
    }
    for pattern, value in numbers.items():
        text = re.sub(pattern, rf"\1: {value}", text)
    return text


def of_model(one: dict[str, Any]) -> str:
    """Return an object of the model as a template inside a `range` over the models."""
    text = dumped(one).replace(MODEL, "{{ $name }}")
    if one["kind"] == "ConfigMap":
        return with_data(text, "toYaml $model.settings")
    change = {"Deployment": _workers, "ScaledObject": _scaled}.get(one["kind"])
    return text if change is None else change(text)


LOOP = """{{{{- range $name, $own := $.Values.models }}}}
{{{{- $model := mustMergeOverwrite (deepCopy $.Values.modelDefaults) (deepCopy $own) }}}}
---
{text}{{{{- end }}}}
"""
#: Policies that name a store: in the cluster, or outside.
STORES = {"penstock-redis-clients": "redis", "penstock-database-clients": "postgres"}


def base_templates(base: Objects, gateway: Objects, redis: Objects) -> dict[Key, str]:
    """Return the objects of the base, each with what a component makes of it."""
    stores = render("external-stores")
    found = {}
    for key, one in base.items():
        text = own(one)
        if key not in gateway:
            text = either("not $.Values.gateway.enabled", text)
        elif gateway[key] != one:
            text = either("$.Values.gateway.enabled", own(gateway[key]), text)
        elif stores[key] != one:
            text = either(f"$.Values.{STORES[key[1]]}.enabled", text, own(stores[key]))
        elif redis[key] != one:
            text = either("$.Values.redis.enabled", own(redis[key]), text)
        found[key] = text
    return found


def templates() -> dict[str, str]:
    """Return every template of the chart by file name."""
    base, gateway, redis = render(), render("gateway"), render("redis")
    found = base_templates(base, gateway, redis)
    optional = {
        "redis": redis,
        "postgres": render("postgres"),
        "monitoring": render("monitoring"),
        "gateway": gateway,
        "certificates": render("certificates"),
    }
    both = render("certificates", "gateway")
    for name, objects in optional.items():
        for key in objects.keys() - base.keys():
            text = own(objects[key])
            if name == "certificates" and both[key] != objects[key]:
                text = either("$.Values.gateway.enabled", own(both[key]), text)
            found[key] = either(f"$.Values.{name}.enabled", text)
    inside, apart = render("redis", model=True), render(model=True)
    for key in apart.keys() - base.keys():
        text = of_model(apart[key])
        if inside[key] != apart[key]:
            text = either("$.Values.redis.enabled", of_model(inside[key]), text)
        found[key[0], f"{key[1]}-of-each-model"] = LOOP.format(text=text)
    return {f"{name}-{kind.lower()}.yaml": text for (kind, name), text in sorted(found.items())}


def values() -> str:
    """Return values.yaml: everything that users may set, with the defaults of the manifests."""
    model = render(model=True)
    (worker,) = model["Deployment", f"penstock-worker-{MODEL}"]["spec"]["template"]["spec"][
        "containers"
    ]
    scaled = model["ScaledObject", f"penstock-worker-{MODEL}"]["spec"]
    parts = {
        "# Settings of all processes but the workers, and of the workers (docs/settings.md).": {
            "settings": env("base/settings.env"),
            "workerSettings": env("base/worker-settings.env"),
        },
        "# What a model has unless it says otherwise.": {
            "modelDefaults": {
                "minReplicas": scaled["minReplicaCount"],
                "maxReplicas": scaled["maxReplicaCount"],
                "fallbackReplicas": scaled["fallback"]["replicas"],
                "cooldownSeconds": scaled["cooldownPeriod"],
                "cacheSize": "64Gi",
                "resources": worker["resources"],
                "nodeSelector": {},
            }
        },
        "# The models: a name for Kubernetes, and the settings of its workers.": {
            "models": {MODEL: {"settings": env(f"models/{MODEL}/model.env")}}
        },
    }
    texts = (f"{note}\n{yaml.safe_dump(part, sort_keys=False)}" for note, part in parts.items())
    return (PARTS / "values.yaml").read_text() + "\n".join(texts)


def write(folder: Path) -> None:
    """Write the chart; what was in the folder is replaced."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    chart = {
        "apiVersion": "v2",
        "name": "penstock",
        "description": project["description"],
        "type": "application",
        "version": project["version"],
        "appVersion": project["version"],
        "kubeVersion": ">=1.30.0-0",
    }
    files = {
        "Chart.yaml": yaml.safe_dump(chart, sort_keys=False),
        "values.yaml": values(),
        "templates/_helpers.tpl": (PARTS / "_helpers.tpl").read_text(),
        "templates/NOTES.txt": (PARTS / "NOTES.txt").read_text(),
        **{f"templates/{name}": text for name, text in templates().items()},
    }
    shutil.rmtree(folder, ignore_errors=True)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def main() -> int:
    """Write the chart; return the exit code."""
    parser = argparse.ArgumentParser(description="Make the Helm chart from the manifests.")
    parser.add_argument("folder", type=Path, help="where to write it; it is replaced")
    folder = parser.parse_args().folder
    write(folder)
    print(f"{folder} has the chart")
    return 0


if __name__ == "__main__":
    sys.exit(main())
