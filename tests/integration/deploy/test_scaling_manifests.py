"""The manifests scale workers as documented: KEDA's triggers, addresses, formula, speed, waits."""

import re
from pathlib import Path

from core.redis.keys import Keys
from tests.support.keda import KEDA_NAMESPACE, Policy, resolve, scale_down_seconds
from tests.support.manifest_settings import models, one, settings_of
from tests.support.manifests import OVERLAYS, ROOT, Manifests


def test_the_triggers_read_the_keys_that_the_code_writes(
    manifests: Manifests, tmp_path: Path
) -> None:
    for spec, settings in models(manifests, tmp_path):
        keys, queue = Keys(settings.redis.prefix), settings.engine.served_name
        lists = {trigger["name"]: trigger["metadata"]["listName"] for trigger in spec["triggers"]}
        assert lists == {
            "queued": keys.queued(queue),
            "running": keys.running(queue),
            "loading": keys.loading(queue),
        }
        for trigger in spec["triggers"]:
            url = settings.redis.url.get_secret_value()
            assert trigger["metadata"]["databaseIndex"] == url.rpartition("/")[2]


def test_a_replica_is_asked_for_per_engine_that_the_work_fills(
    manifests: Manifests, tmp_path: Path
) -> None:
    for spec, settings in models(manifests, tmp_path):
        policy, slots = Policy.of(spec), settings.engine.slots
        assert spec["advanced"]["scalingModifiers"]["metricType"] == "AverageValue"
        assert policy.formula.names == {trigger["name"] for trigger in spec["triggers"]}

        def wanted(queued: int, running: int, loading: int, policy: Policy = policy) -> int:
            metrics = {"queued": queued, "running": running, "loading": loading}
            return policy.replicas(metrics)

        assert wanted(0, 0, 0) == 0
        assert wanted(1, 0, 0) == wanted(0, 1, 0) == 1, "one job is enough to start a worker"
        assert wanted(0, 0, 1) == 1, "a worker that loads is kept"
        assert wanted(slots, 0, 1) == wanted(slots - 1, 1, 1) == 1, "and is no further work"
        assert wanted(slots, 1, 0) == 2


def test_scaling_has_the_promised_speed(manifests: Manifests, tmp_path: Path) -> None:
    for spec, _ in models(manifests, tmp_path):
        behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
        up, down = behavior["scaleUp"], behavior["scaleDown"]
        assert up["selectPolicy"] == "Max"
        assert up["stabilizationWindowSeconds"] == 0
        assert {"type": "Percent", "value": 100, "periodSeconds": 30} in up["policies"]
        assert {"type": "Pods", "value": 2, "periodSeconds": 30} in up["policies"]
        assert down["policies"] == [{"type": "Percent", "value": 50, "periodSeconds": 60}]
        assert down["stabilizationWindowSeconds"] == 300
        assert spec["fallback"]["replicas"] >= 1, "an unreadable queue is not an empty one"
        assert spec["fallback"]["behavior"] == "currentReplicasIfHigher", "it removes no worker"
        assert spec["minReplicaCount"] <= spec["fallback"]["replicas"] <= spec["maxReplicaCount"]


def test_models_scale_to_zero_where_nobody_waits_for_them() -> None:
    least = {
        overlay: {
            spec["spec"]["minReplicaCount"]
            for spec in Manifests(overlay).of("ScaledObject").values()
        }
        for overlay in OVERLAYS
    }
    assert least == {"dev": {0}, "staging": {0}, "prod": {1}, "region-b": {0}}


def test_every_model_is_declared_as_its_workers_serve_it(
    manifests: Manifests, tmp_path: Path
) -> None:
    """A model unknown to Redis gets no jobs, and without jobs it is never scaled up."""
    served = {
        settings.engine.served_name: (settings.engine.max_model_len, settings.engine.task)
        for _, settings in models(manifests, tmp_path)
    }
    declared = settings_of(one(manifests, "control"), tmp_path).control.models
    assert served == {name: (model.max_model_len, model.task) for name, model in declared.items()}


def test_the_first_worker_stays_until_it_has_shown_that_it_starts(manifests: Manifests) -> None:
    for scaled in manifests.of("ScaledObject").values():
        name = scaled["spec"]["scaleTargetRef"]["name"]
        deployment = manifests.of("Deployment")[name]
        assert "replicas" not in deployment["spec"], "Kubernetes starts with one"
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        probe = container["startupProbe"]
        seconds = probe["periodSeconds"] * probe["failureThreshold"]
        assert scaled["spec"]["initialCooldownPeriod"] > seconds


def test_a_load_counts_for_as_long_as_its_probe_lets_it_last(
    manifests: Manifests, tmp_path: Path
) -> None:
    worker = one(manifests, "worker")
    probe = worker.spec["startupProbe"]
    seconds = settings_of(worker, tmp_path).worker.load_seconds
    assert seconds > probe["periodSeconds"] * probe["failureThreshold"]


def test_a_fleet_shrinks_step_by_step_before_it_is_scaled_to_zero(manifests: Manifests) -> None:
    """KEDA removes all replicas in one step: by then the autoscaler must have left one."""
    for scaled in manifests.of("ScaledObject").values():
        assert scaled["spec"]["cooldownPeriod"] >= scale_down_seconds(scaled["spec"])


# --- where KEDA reads ---------------------------------------------------------------------


def keda_addresses(manifests: Manifests) -> list[str]:
    """Return the address of each trigger of Redis; "secret" if it is in the secret."""
    found = []
    for scaled in manifests.of("ScaledObject").values():
        for trigger in scaled["spec"]["triggers"]:
            if trigger["type"] == "redis":
                name = trigger["authenticationRef"]["name"]
                auth = manifests.of("TriggerAuthentication")[name]["spec"]["secretTargetRef"]
                in_secret = any(one["parameter"] == "address" for one in auth)
                address = trigger["metadata"].get("address")
                assert (address is None) == in_secret, "one of them, or KEDA takes the other"
                found.append(address or "secret")
    assert found
    return found


def test_keda_finds_redis_from_its_own_namespace(manifests: Manifests) -> None:
    """The operator, in its namespace, makes the connection for every ScaledObject."""
    services = {
        (service["metadata"]["namespace"], name): service["spec"]["ports"]
        for name, service in manifests.of("Service").items()
    }
    for address in keda_addresses(manifests):
        if address == "secret":
            assert "redis" not in manifests.of("Service"), "its own Redis needs no address"
            continue
        host, _, port = address.partition(":")
        found = resolve(host, KEDA_NAMESPACE, services)
        assert found is not None, address
        assert found[1] == "redis"
        assert int(port) in {one["port"] for one in services[found]}


def test_a_short_name_is_found_in_its_own_namespace_only() -> None:
    services = {("penstock", "redis")}
    full = "redis.penstock.svc.cluster.local"
    assert resolve("redis", "penstock", services) == ("penstock", "redis")
    assert resolve("redis", KEDA_NAMESPACE, services) is None
    for name in (full, f"{full}.", "redis.penstock.svc", "redis.penstock"):
        assert resolve(name, KEDA_NAMESPACE, services) == ("penstock", "redis"), name


def test_the_guide_gives_keda_no_short_name() -> None:
    guide = (ROOT / "docs" / "deployment.md").read_text()
    addresses = re.findall(r"--from-literal=address=(\S+):\d+", guide)
    assert addresses
    for address in addresses:
        is_name = address.isupper()  # a placeholder for the server of the reader
        assert is_name or address.endswith(".svc.cluster.local"), address


def test_keda_is_let_in_where_redis_is_in_the_cluster() -> None:
    for overlay in OVERLAYS:
        policy = Manifests(overlay).of("NetworkPolicy").get("redis")
        if policy is not None:
            (rule,) = policy["spec"]["ingress"]
            spaces = [
                peer["namespaceSelector"] for peer in rule["from"] if "namespaceSelector" in peer
            ]
            assert spaces == [{"matchLabels": {"kubernetes.io/metadata.name": KEDA_NAMESPACE}}]


def test_no_replica_count_fights_an_autoscaler(manifests: Manifests) -> None:
    scaled = [
        one["spec"]["scaleTargetRef"]["name"]
        for kind in ("ScaledObject", "HorizontalPodAutoscaler")
        for one in manifests.of(kind).values()
    ]
    for name, deployment in manifests.of("Deployment").items():
        assert ("replicas" in deployment["spec"]) == (name not in scaled), name
