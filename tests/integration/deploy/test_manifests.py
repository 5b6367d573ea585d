"""Every object matches its schema, and every pod runs with the fewest privileges."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.support.manifests import ROOT, Manifests, matches

SCHEMAS = ROOT / "tests" / "schemas"
KUBERNETES = "1.34"
#: Groups whose schemas are made from the types of a package.
TYPED = ("monitoring.coreos.com", "gateway.networking.k8s.io", "cert-manager.io")
RESTRICTED = "pod-security.kubernetes.io/enforce"


def strict(schema: Any) -> Any:
    """Forbid what a schema does not name, wherever it names anything."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: strict(part) for name, part in schema.items()}
    if "properties" in schema and schema.get("type") == "object":
        closed.setdefault("additionalProperties", False)
    return closed


@cache
def keda_schema(kind: str) -> dict[str, Any]:
    file = SCHEMAS / f"keda.sh_{kind.lower()}s.yaml"
    versions = yaml.safe_load(file.read_text())["spec"]["versions"]
    schema: dict[str, Any] = strict(versions[0]["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    return schema


@cache
def typed_schema(group: str, kind: str) -> dict[str, Any]:
    schema = json.loads((SCHEMAS / f"{group}.json").read_text())
    return {"$ref": f"#/definitions/I{kind}", "definitions": schema["definitions"]}


def validate(one: dict[str, Any]) -> None:
    group = one["apiVersion"].partition("/")[0]
    if group == "keda.sh":
        jsonschema.Draft202012Validator(keda_schema(one["kind"])).validate(one)
    elif group in TYPED:
        jsonschema.Draft7Validator(typed_schema(group, one["kind"])).validate(one)
    else:
        kubernetes_validate.validate(one, KUBERNETES, strict=True)


def test_every_object_is_valid_to_the_letter(manifests: Manifests) -> None:
    for one in manifests.all:
        validate(one)


KINDS = [
    "Certificate",
    "Deployment",
    "Gateway",
    "HTTPRoute",
    "Issuer",
    "PodMonitor",
    "PrometheusRule",
    "ScaledObject",
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_misspelt_field_would_be_found(kind: str) -> None:
    one = next(iter(Manifests("staging").of(kind).values()))
    validate(one)
    spoilt = {**one, "spec": {**one["spec"], "misspelt": 1}}
    with pytest.raises((jsonschema.ValidationError, kubernetes_validate.ValidationError)):
        validate(spoilt)


def test_one_object_stands_in_each_file_which_is_named_after_its_kind() -> None:
    for file in (ROOT / "k8s").rglob("*.yaml"):
        objects = list(yaml.safe_load_all(file.read_text()))
        if file.name in {"kustomization.yaml", "scaledobject-names.yaml"}:
            continue
        assert len(objects) == 1, file
        kind = file.stem.removesuffix("-patch").rpartition("-")[2]
        if isinstance(objects[0], dict):
            assert objects[0]["kind"].lower() == kind, file


def test_every_pod_meets_the_restricted_standard(manifests: Manifests) -> None:
    for container in manifests.containers():
        pod, own = container.pod["securityContext"], container.spec["securityContext"]
        assert pod["runAsNonRoot"] is True, container.owner
        assert pod["runAsUser"] > 0, container.owner
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}, container.owner
        assert own["allowPrivilegeEscalation"] is False, container.owner
        assert own["readOnlyRootFilesystem"] is True, container.owner
        assert own["capabilities"] == {"drop": ["ALL"]}, container.owner
        assert container.pod["automountServiceAccountToken"] is False, container.owner
        for closed in ("hostNetwork", "hostPID", "hostIPC"):
            assert not container.pod.get(closed), container.owner
        for volume in container.pod.get("volumes", []):
            assert "hostPath" not in volume, container.owner


def test_every_container_says_what_it_needs_and_what_it_may_have(manifests: Manifests) -> None:
    for container in manifests.containers():
        resources = container.spec["resources"]
        assert {"cpu", "memory"} <= set(resources["requests"]), container.owner
        assert "memory" in resources["limits"], container.owner
        gpus = resources["limits"].get("nvidia.com/gpu")
        assert gpus == resources["requests"].get("nvidia.com/gpu"), container.owner


def test_no_secret_is_written_down(manifests: Manifests) -> None:
    assert not manifests.of("Secret")
    for container in manifests.containers():
        for name, value in container.variables.items():
            if any(word in name for word in ("PASSWORD", "TOKEN", "_AUTH", "__URL", "SECRET")):
                hidden = value.startswith("secret:") or value == "file:///files"
                assert hidden, (container.owner, name)


def test_the_namespace_enforces_the_same(manifests: Manifests) -> None:
    (namespace,) = manifests.of("Namespace").values()
    assert namespace["metadata"]["labels"][RESTRICTED] == "restricted"
    homes = {one["metadata"].get("namespace") for one in manifests.all if one is not namespace}
    assert homes == {namespace["metadata"]["name"]}


def test_every_reference_to_another_object_is_true(manifests: Manifests) -> None:
    workloads = [f"{c.owner}" for c in manifests.containers()]
    for kind in ("ScaledObject", "HorizontalPodAutoscaler"):
        for one in manifests.of(kind).values():
            assert f"Deployment/{one['spec']['scaleTargetRef']['name']}" in workloads
    for scaled in manifests.of("ScaledObject").values():
        for trigger in scaled["spec"]["triggers"]:
            reference = trigger["authenticationRef"]["name"]
            assert reference in manifests.of("TriggerAuthentication")
    for ingress in manifests.of("Ingress").values():
        for path in ingress["spec"]["rules"][0]["http"]["paths"]:
            backend = path["backend"]["service"]
            ports = manifests.of("Service")[backend["name"]]["spec"]["ports"]
            assert backend["port"]["name"] in {port["name"] for port in ports}
    for service in manifests.of("Service").values():
        chosen = [
            container
            for container in manifests.containers(init=False)
            if matches({"matchLabels": service["spec"]["selector"]}, container.labels)
        ]
        assert len(chosen) == 1, service["metadata"]["name"]
        for port in service["spec"]["ports"]:
            assert chosen[0].port(port["targetPort"])


def test_each_deployment_has_a_disruption_budget_of_its_own(manifests: Manifests) -> None:
    budgets = manifests.of("PodDisruptionBudget").values()
    for name, deployment in manifests.of("Deployment").items():
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        covering = [one for one in budgets if matches(one["spec"]["selector"], labels)]
        assert len(covering) == 1, name


def test_replicas_are_kept_apart(manifests: Manifests) -> None:
    """Each Deployment is spread, by a selector that takes its own pods."""
    for name, one in manifests.of("Deployment").items():
        template = one["spec"]["template"]
        apart = template["spec"].get("affinity", {}).get("podAntiAffinity", {})
        preferred = apart.get("preferredDuringSchedulingIgnoredDuringExecution", [])
        terms = [term["podAffinityTerm"] for term in preferred]
        terms += template["spec"].get("topologySpreadConstraints", [])
        assert terms, name
        for term in terms:
            assert matches(term["labelSelector"], template["metadata"]["labels"]), name


@pytest.mark.parametrize("overlay", ["staging", "prod", "region-b"])
def test_a_gpu_worker_gets_onto_its_nodes_and_has_memory_to_share(overlay: str) -> None:
    containers = [c for c in Manifests(overlay).containers() if c.component == "worker"]
    assert containers
    for container in containers:
        assert container.spec["resources"]["limits"]["nvidia.com/gpu"] >= 1
        tolerated = {one["key"] for one in container.pod["tolerations"]}
        assert "nvidia.com/gpu" in tolerated
        mounted = {one["mountPath"]: one["name"] for one in container.spec["volumeMounts"]}
        volumes = {one["name"]: one for one in container.pod["volumes"]}
        assert volumes[mounted["/dev/shm"]]["emptyDir"]["medium"] == "Memory"


def test_selectors_choose_one_workload_only(manifests: Manifests) -> None:
    pods = {(c.owner, tuple(sorted(c.labels.items()))) for c in manifests.containers()}
    for name, deployment in manifests.of("Deployment").items():
        selector = deployment["spec"]["selector"]
        chosen = {owner for owner, labels in pods if matches(selector, dict(labels))}
        assert chosen == {f"Deployment/{name}"}


def test_the_api_believes_the_ingress_about_the_addresses_of_clients(manifests: Manifests) -> None:
    containers = [one for one in manifests.containers() if one.spec["name"] == "api"]
    assert containers
    for one in containers:
        assert json.loads(one.variables["PENSTOCK_API__TRUSTED_PROXIES"]), one.owner


def test_images_have_a_version(manifests: Manifests) -> None:
    for container in manifests.containers():
        _, _, tag = container.spec["image"].partition(":")
        assert tag, container.spec["image"]
        assert tag != "latest", container.spec["image"]


def test_the_cluster_has_the_rules_that_are_tested_with_promtool() -> None:
    (rule,) = Manifests("prod").of("PrometheusRule").values()
    files = sorted((ROOT / "deploy/prometheus/rules").glob("*.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text())["groups"]]
    assert rule["spec"]["groups"] == groups, "make rules"


def test_the_schemas_say_where_they_come_from() -> None:
    text = (SCHEMAS / "README.md").read_text()
    for file in Path(SCHEMAS).iterdir():
        if file.suffix in {".yaml", ".json"}:
            assert file.name.partition("_")[0].removesuffix(".json") in text


def test_there_is_nothing_that_the_api_server_warns_about(manifests: Manifests) -> None:
    """It names doubled variables and ports, and labels and annotations that are out of date."""
    for container in manifests.containers():
        names = [variable["name"] for variable in container.spec.get("env", [])]
        assert len(names) == len(set(names)), container.owner
    for one in manifests.all:
        text = json.dumps(one)
        assert "beta.kubernetes.io/" not in text, one["metadata"]["name"]
        assert "kubernetes.io/ingress.class" not in text, one["metadata"]["name"]
        template = one.get("spec", {}).get("template", {}) if one["kind"] != "Certificate" else {}
        ports = [
            (port.get("protocol", "TCP"), port["containerPort"])
            for container in template.get("spec", {}).get("containers", [])
            for port in container.get("ports", [])
        ]
        assert len(ports) == len(set(ports)), one["metadata"]["name"]
        mounts = template.get("spec", {}).get("volumes", [])
        assert len({volume["name"] for volume in mounts}) == len(mounts)
