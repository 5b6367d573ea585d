"""The manifests agree with the code: settings, ports, timeouts, keys, routes, network policies."""

from pathlib import Path

import pytest

from api.app import create_app
from cli.main import NOUNS
from core.settings.tree import Settings
from intake.lifetime.request_lifetime import GRACE_SECONDS
from tests.support.manifest_settings import OTHERS, one, ours, settings_of
from tests.support.manifests import ROOT, Manifests, matches
from webhooks.celery_app import CLOSE_SECONDS


def test_every_variable_is_a_setting(manifests: Manifests, tmp_path: Path) -> None:
    for container in ours(manifests):
        settings_of(container, tmp_path)
        given = [variable["name"] for variable in container.spec.get("env", [])]
        assert len(set(given)) == len(given), container.owner
        for name in container.variables:
            assert name.startswith("PENSTOCK_") or name in OTHERS, (container.owner, name)


def test_every_container_runs_a_command_that_there_is(manifests: Manifests) -> None:
    for container in ours(manifests):
        assert "command" not in container.spec, "the image's entry point is `penstock`"
        assert container.spec["args"][0] in NOUNS, container.owner


@pytest.mark.parametrize(
    ("component", "group", "host", "port"),
    [
        ("api", "api", "host", "port"),
        ("worker", "worker", "health_host", "health_port"),
        ("ledger", "billing", "health_host", "health_port"),
        ("control", "control", "health_host", "health_port"),
        ("deliverer", "webhooks", "health_host", "health_port"),
        ("feeder", "batches", "health_host", "health_port"),
    ],
)
def test_probes_and_metrics_find_each_process(
    manifests: Manifests, tmp_path: Path, component: str, group: str, host: str, port: str
) -> None:
    container = one(manifests, component)
    settings = getattr(settings_of(container, tmp_path), group)
    assert getattr(settings, host) == "0.0.0.0"
    assert getattr(settings, port) == container.port("http")
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = container.spec.get(name)
        assert probe or name == "readinessProbe", (component, name)
        if probe:
            assert probe["httpGet"]["port"] == "http"
            assert probe["httpGet"]["path"] in {"/health", "/ready"}
    assert container.spec["livenessProbe"]["httpGet"]["path"] == "/health"


def test_nothing_is_killed_before_it_has_drained(manifests: Manifests, tmp_path: Path) -> None:
    worker = one(manifests, "worker")
    settings = settings_of(worker, tmp_path).worker
    grace = worker.pod["terminationGracePeriodSeconds"]
    assert grace > settings.grace_seconds + 5 > settings.drain_seconds + 5

    deliverer = one(manifests, "deliverer")
    seconds = settings_of(deliverer, tmp_path).webhooks.total_seconds
    assert deliverer.pod["terminationGracePeriodSeconds"] > seconds + CLOSE_SECONDS + 5

    api = one(manifests, "api")
    pause = api.spec["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert api.pod["terminationGracePeriodSeconds"] >= pause + GRACE_SECONDS + 5 + 5


def test_a_worker_that_cannot_hear_redis_is_restarted_before_its_pod_is_given_up(
    manifests: Manifests, tmp_path: Path
) -> None:
    worker = one(manifests, "worker")
    startup = worker.spec["startupProbe"]
    assert startup["httpGet"]["path"] == "/ready", "a model that hangs while it loads is noticed"
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 1800
    (deployment,) = (
        d for name, d in manifests.of("Deployment").items() if name.startswith("penstock-worker")
    )
    seconds = startup["periodSeconds"] * startup["failureThreshold"]
    assert deployment["spec"]["progressDeadlineSeconds"] > seconds


# --- clients ------------------------------------------------------------------------------


@pytest.mark.parametrize("overlay", ["dev", "prod", "region-b"])
def test_the_ingress_carries_streams(overlay: str, tmp_path: Path) -> None:
    manifests = Manifests(overlay)
    settings = settings_of(one(manifests, "api"), tmp_path)
    (ingress,) = manifests.of("Ingress").values()
    notes = {
        name.rpartition("/")[2]: value for name, value in ingress["metadata"]["annotations"].items()
    }
    assert notes["proxy-buffering"] == "off"
    assert float(notes["proxy-read-timeout"]) > settings.limits.sync_seconds
    assert float(notes["proxy-read-timeout"]) > 3 * settings.stream.ping_seconds
    largest = int(notes["proxy-body-size"].removesuffix("m")) * 1_000_000
    assert largest >= settings.limits.body_bytes
    assert largest >= settings.files.max_bytes + 1_000_000
    assert notes["proxy-request-buffering"] == "off"


@pytest.mark.parametrize("overlay", ["dev", "prod", "region-b"])
def test_the_ingress_shows_the_clients_routes_and_no_other(overlay: str) -> None:
    (ingress,) = Manifests(overlay).of("Ingress").values()
    paths = ingress["spec"]["rules"][0]["http"]["paths"]

    def shown(route: str) -> bool:
        exact = any(p["path"] == route for p in paths if p["pathType"] == "Exact")
        prefixes = [p["path"] for p in paths if p["pathType"] == "Prefix"]
        return exact or any(route == p or route.startswith(f"{p}/") for p in prefixes)

    app = create_app(Settings(_env_file=None))
    routes = {str(getattr(route, "path", "")) for route in app.routes}
    assert "/v1/jobs" in routes
    for route in routes:
        assert shown(route) == (route.startswith("/v1/") or route == "/health"), route


# --- who may talk to whom -----------------------------------------------------------------


def arrows(manifests: Manifests) -> set[tuple[str, str]]:
    """Return (from, to) of every connection that the network policies allow."""
    found = set()
    for policy in manifests.of("NetworkPolicy").values():
        spec = policy["spec"]
        for rule in spec.get("egress", []):
            ports = {str(port["port"]) for port in rule["ports"]}
            for container in manifests.containers():
                if matches(spec["podSelector"], container.labels):
                    found |= {(container.component, port) for port in ports}
    return found


def test_only_the_arrows_of_the_design_are_open(manifests: Manifests, tmp_path: Path) -> None:
    wanted = {(c.component, "53") for c in manifests.containers()}
    for container in ours(manifests):
        if "PENSTOCK_REDIS__URL" in container.variables:
            wanted.add((container.component, "6379"))
        if "PENSTOCK_DATABASE__URL" in container.variables:
            wanted.add((container.component, "5432"))
    wanted.add(("worker", "443"))  # weights
    wanted |= {("api", "443"), ("feeder", "443")}  # files
    ports = settings_of(one(manifests, "deliverer"), tmp_path).webhooks.ports
    wanted |= {("deliverer", str(port)) for port in ports}
    assert arrows(manifests) == wanted
    assert ("worker", "5432") not in wanted, "workers know nothing of money"


def test_whoever_may_talk_to_a_store_is_also_let_in(manifests: Manifests) -> None:
    for store, port in (("redis", "6379"), ("postgres", "5432")):
        policy = manifests.of("NetworkPolicy").get(store)
        if policy is None:
            assert manifests.overlay != "dev"
            continue
        (rule,) = policy["spec"]["ingress"]
        selectors = [peer["podSelector"] for peer in rule["from"] if "podSelector" in peer]
        inside = {
            c.component
            for c in manifests.containers()
            if any(matches(selector, c.labels) for selector in selectors)
        }
        assert inside == {who for who, to in arrows(manifests) if to == port}


def test_everything_else_is_refused(manifests: Manifests) -> None:
    deny = manifests.of("NetworkPolicy")["penstock-default-deny"]["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert manifests.of("NetworkPolicy")["penstock-api"]["spec"]["policyTypes"] == ["Ingress"]


def test_every_secret_is_described(manifests: Manifests) -> None:
    guide = (ROOT / "docs" / "deployment.md").read_text()
    for container in manifests.containers():
        for value in container.variables.values():
            if value.startswith("secret:"):
                name, _, key = value.removeprefix("secret:").partition("/")
                assert name in guide, name
                assert f"--from-literal={key}=" in guide, (name, key)


def test_a_warm_region_writes_nothing_to_its_replica_of_the_database() -> None:
    assert len(Manifests("prod").of("Job")) == 1
    warm = Manifests("region-b")
    assert not warm.of("Job")
    running = {
        name: deployment["spec"]["replicas"]
        for name, deployment in warm.of("Deployment").items()
        if "replicas" in deployment["spec"]
    }
    assert {name for name, count in running.items() if count} == {"penstock-control"}


def test_an_outage_of_redis_costs_no_worker_its_model_and_no_client_a_real_answer(
    manifests: Manifests, tmp_path: Path
) -> None:
    def seconds(component: str, probe: str) -> int:
        found = one(manifests, component).spec[probe]
        return int(found["periodSeconds"]) * int(found["failureThreshold"])

    deaf = settings_of(one(manifests, "worker"), tmp_path).worker.redis_unreachable_seconds
    assert deaf + seconds("worker", "livenessProbe") >= 300
    assert seconds("api", "readinessProbe") >= 30, "docs/operations.md measures 11 s"


def test_all_pods_together_ask_postgresql_for_a_bounded_number_of_connections(
    manifests: Manifests, tmp_path: Path
) -> None:
    connections = 0
    for container in manifests.containers(init=False):
        if "PENSTOCK_DATABASE__URL" not in container.variables:
            continue
        settings = settings_of(container, tmp_path)
        name = container.owner.partition("/")[2]
        scaler = manifests.of("HorizontalPodAutoscaler").get(name)
        deployment = manifests.of("Deployment").get(name, {"spec": {"replicas": 1}})
        pods = scaler["spec"]["maxReplicas"] if scaler else deployment["spec"]["replicas"]
        connections += pods * settings.database.connections
    assert connections <= 150, "docs/deployment.md says max_connections=200"
