"""Manifests around the processes: routes, certificates, disk, memory, restarts, migration."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.grafana_dashboards import dashboards
from tests.integration.deploy.test_manifests import validate
from tests.support.keda import KEDA_NAMESPACE, Policy, resolve
from tests.support.manifest_settings import ours, settings_of
from tests.support.manifests import OVERLAYS, ROOT, Manifests, matches

UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "kb": 2**10, "mb": 2**20, "gb": 2**30}


def in_bytes(quantity: str) -> int:
    """Read a quantity of Kubernetes or of Redis."""
    found = re.fullmatch(r"(\d+)(Ki|Mi|Gi|kb|mb|gb)", quantity)
    assert found, quantity
    return int(found[1]) * UNITS[found[2]]


def templates(manifests: Manifests) -> dict[str, Any]:
    """Return the pod template of each Deployment: what restarts its pods if it changes."""
    return {name: one["spec"]["template"] for name, one in manifests.of("Deployment").items()}


def restarted(before: Manifests, after: Manifests) -> set[str]:
    old, new = templates(before), templates(after)
    assert set(old) == set(new)
    return {name for name in old if old[name] != new[name]}


# --- a change restarts what it concerns ---------------------------------------------------


def test_a_setting_of_the_other_processes_restarts_no_worker(
    changed: Callable[..., Manifests],
) -> None:
    after = changed(
        "prod", "base/settings.env", "PENSTOCK_LOG__FORMAT=json", "PENSTOCK_LOG__LEVEL=INFO"
    )
    stopped = restarted(Manifests("prod"), after)
    assert "penstock-api" in stopped
    assert not {name for name in stopped if name.startswith("penstock-worker")}


def test_a_setting_of_one_model_restarts_its_workers_only(
    changed: Callable[..., Manifests],
) -> None:
    file, before = "models/llama-8b/model.env", "PENSTOCK_ENGINE__SLOTS=64"
    after = changed("prod", file, before, "PENSTOCK_ENGINE__SLOTS=65")
    assert restarted(Manifests("prod"), after) == {"penstock-worker-llama-8b"}


def test_workers_and_the_others_agree_on_what_they_share(
    manifests: Manifests, tmp_path: Path
) -> None:
    """The settings are in two files, so that a change restarts no worker without need."""
    kinds = {container.component: container for container in ours(manifests)}
    worker = settings_of(kinds["worker"], tmp_path)
    others = settings_of(kinds["control"], tmp_path)
    for group in ("redis", "lease", "limits", "log", "queue", "retention", "trace"):
        assert getattr(worker, group) == getattr(others, group), group


def test_a_roll_out_leaves_a_small_fleet_whole_and_needs_at_most_one_free_gpu(
    manifests: Manifests,
) -> None:
    for name, deployment in manifests.of("Deployment").items():
        if name.startswith("penstock-worker"):
            rolling = deployment["spec"]["strategy"]["rollingUpdate"]
            assert rolling["maxSurge"] == 1
            share = int(rolling["maxUnavailable"].removesuffix("%")) / 100
            unavailable = {replicas: int(replicas * share) for replicas in (1, 2, 3, 4, 32)}
            assert unavailable == {1: 0, 2: 0, 3: 0, 4: 1, 32: 8}


def test_a_cluster_without_a_free_gpu_can_still_roll_out(changed: Callable[..., Manifests]) -> None:
    listed = "  - ../../components/monitoring\n"
    extra = f"{listed}  - ../../components/no-spare-gpu\n"
    tight = changed("prod", "overlays/prod/kustomization.yaml", listed, extra)
    strategy = tight.of("Deployment")["penstock-worker-llama-8b"]["spec"]["strategy"]
    assert strategy["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_no_node_label_of_an_add_on_is_needed(manifests: Manifests) -> None:
    """The GPU itself is what a worker asks for."""
    for container in manifests.containers():
        assert "nodeSelector" not in container.pod, container.owner


# --- disk and memory ----------------------------------------------------------------------


def test_each_pod_asks_for_the_disk_that_it_may_fill(manifests: Manifests) -> None:
    for container in manifests.containers(init=False):
        volumes = {one["name"]: one for one in container.pod.get("volumes", [])}
        used = {mount["name"] for mount in container.spec.get("volumeMounts", [])}
        empty = [volumes[name]["emptyDir"] for name in used if "emptyDir" in volumes.get(name, {})]
        assert all("sizeLimit" in one for one in empty), container.owner
        disk = sum(in_bytes(one["sizeLimit"]) for one in empty if one.get("medium") != "Memory")
        if disk:
            resources = container.spec["resources"]
            assert in_bytes(resources["requests"]["ephemeral-storage"]) > disk, container.owner
            limit = resources["limits"].get("ephemeral-storage")
            assert limit is None or in_bytes(limit) > disk, container.owner
            assert limit or container.component != "worker", "it downloads what it is told to"


@pytest.mark.parametrize("overlay", ["dev", "staging"])
def test_redis_has_room_for_the_copy_that_rewrites_its_file(overlay: str) -> None:
    """Each page that changes while a forked copy writes the file is there twice."""
    (redis,) = [c for c in Manifests(overlay).containers() if c.component == "redis"]
    words = redis.spec["args"]
    most = in_bytes(words[words.index("--maxmemory") + 1])
    assert in_bytes(redis.spec["resources"]["limits"]["memory"]) >= 2 * most + 256 * 2**20


# --- the way in ---------------------------------------------------------------------------


def test_a_namespace_with_the_label_reaches_the_api_and_others_do_not(
    manifests: Manifests,
) -> None:
    (rule,) = manifests.of("NetworkPolicy")["penstock-api"]["spec"]["ingress"]

    def let_in(labels: dict[str, str]) -> bool:
        return any(matches(peer["namespaceSelector"], labels) for peer in rule["from"])

    assert let_in({"kubernetes.io/metadata.name": "my-app", "penstock/client": "true"})
    assert not let_in({"kubernetes.io/metadata.name": "my-app"})
    for peer in rule["from"]:
        assert peer["namespaceSelector"]["matchLabels"], "an empty selector takes every namespace"


def test_the_gateway_shows_the_same_paths_as_the_ingress() -> None:
    (ingress,) = Manifests("prod").of("Ingress").values()
    paths = {
        (path["pathType"].replace("Prefix", "PathPrefix"), path["path"])
        for path in ingress["spec"]["rules"][0]["http"]["paths"]
    }
    staging = Manifests("staging")
    assert not staging.of("Ingress"), "one way in"
    (rule,) = staging.of("HTTPRoute")["penstock-api"]["spec"]["rules"]
    assert {(one["path"]["type"], one["path"]["value"]) for one in rule["matches"]} == paths
    (backend,) = rule["backendRefs"]
    service = staging.of("Service")[backend["name"]]
    assert backend["port"] in {port["port"] for port in service["spec"]["ports"]}
    assert set(rule["timeouts"].values()) == {"0s"}, "a stream lasts as long as its job"


def test_routes_gateway_certificate_and_challenge_fit_together() -> None:
    staging = Manifests("staging")
    (gateway,) = staging.of("Gateway").values()
    listeners = {one["name"]: one for one in gateway["spec"]["listeners"]}
    (certificate,) = staging.of("Certificate").values()
    (issuer,) = staging.of("Issuer").values()
    for route in staging.of("HTTPRoute").values():
        (parent,) = route["spec"]["parentRefs"]
        assert parent["name"] == gateway["metadata"]["name"]
        hosts = {listeners[parent["sectionName"]]["hostname"]}
        assert set(route["spec"]["hostnames"]) == hosts == set(certificate["spec"]["dnsNames"])
    (secret,) = listeners["https"]["tls"]["certificateRefs"]
    assert secret["name"] == certificate["spec"]["secretName"]
    assert certificate["spec"]["issuerRef"]["name"] == issuer["metadata"]["name"]
    (solver,) = issuer["spec"]["acme"]["solvers"]
    (parent,) = solver["http01"]["gatewayHTTPRoute"]["parentRefs"]
    assert parent["name"] == gateway["metadata"]["name"]
    assert listeners[parent["sectionName"]]["port"] == 80
    peers = [
        staging.of("NetworkPolicy")[name]["spec"]["ingress"][0]["from"][0]
        for name in ("penstock-api", "penstock-acme")
    ]
    assert peers[0] == peers[1], "the gateway's proxies reach both"


def test_certificates_work_with_the_ingress_too(changed: Callable[..., Manifests]) -> None:
    listed = "  - ../../components/monitoring\n"
    extra = f"{listed}  - ../../components/certificates\n"
    prod = changed("prod", "overlays/prod/kustomization.yaml", listed, extra)
    (ingress,) = prod.of("Ingress").values()
    (certificate,) = prod.of("Certificate").values()
    (tls,) = ingress["spec"]["tls"]
    assert tls["secretName"] == certificate["spec"]["secretName"]
    assert tls["hosts"] == certificate["spec"]["dnsNames"]
    (solver,) = prod.of("Issuer")["penstock"]["spec"]["acme"]["solvers"]
    name = solver["http01"]["ingress"]["ingressClassName"]
    assert name == ingress["spec"]["ingressClassName"]


# --- the migration ------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", sorted(set(OVERLAYS) - {"region-b"}))
def test_each_version_has_a_migration_of_its_own(overlay: str) -> None:
    """A Job cannot be changed: with one name for all versions the next `apply` would fail."""
    (job,) = Manifests(overlay).of("Job").values()
    (container,) = job["spec"]["template"]["spec"]["containers"]
    version = container["image"].rpartition(":")[2]
    assert job["metadata"]["name"] == f"penstock-migrate-{version.replace('.', '-')}"
    assert job["spec"]["ttlSecondsAfterFinished"] > 0, "it is deleted automatically"
    assert job["metadata"]["annotations"]["argocd.argoproj.io/hook"] == "Sync"


# --- monitoring ---------------------------------------------------------------------------


def test_the_cluster_has_the_dashboards_that_are_tested() -> None:
    found = Manifests("prod").of("ConfigMap")["penstock-dashboards"]
    wanted = dashboards()
    assert found["data"] == wanted["data"], "make rules"
    assert found["metadata"]["labels"]["grafana_dashboard"] == "1", "the sidecar's label"
    assert set(found["data"]) == {p.name for p in (ROOT / "deploy/grafana/dashboards").iterdir()}
    assert len(yaml.safe_dump(found)) < 250_000, "`kubectl apply` keeps it in an annotation"


def test_a_model_can_also_scale_on_latency_and_utilisation(
    changed: Callable[..., Manifests],
) -> None:
    listed = "  - ../../model-base\n"
    extra = f"{listed}  - ../../components/latency-scaling\n"
    prod = changed("prod", "models/llama-8b/kustomization.yaml", listed, extra)
    (scaled,) = prod.of("ScaledObject").values()
    validate(scaled)
    policy = Policy.of(scaled["spec"])
    triggers = {trigger["name"]: trigger for trigger in scaled["spec"]["triggers"]}
    assert policy.formula.names == set(triggers)
    quiet = dict.fromkeys(triggers, 0.0)
    assert policy.replicas(quiet) == 0
    slots = policy.target
    assert policy.replicas({**quiet, "running": slots, "latency": 2 * slots}) == 2
    assert policy.replicas({**quiet, "running": slots, "utilisation": 1.25 * slots}) == 2
    recorded = (ROOT / "deploy/prometheus/rules/recording.yml").read_text()
    for name in ("latency", "utilisation"):
        metadata = triggers[name]["metadata"]
        record, _, label = metadata["query"].partition("{")
        assert label == 'model="llama-8b"}'
        assert f"record: {record}\n" in recorded
        host = metadata["serverAddress"].removeprefix("http://").partition(":")[0]
        known = {("monitoring", "prometheus-operated")}
        assert resolve(host, KEDA_NAMESPACE, known) is not None
