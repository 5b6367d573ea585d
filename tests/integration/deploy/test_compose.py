"""The compose file, as Docker Compose reads it, agrees with the code, and its commands run."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
import redis
import yaml

from bench.servers.local_postgres import connect, programs
from cli.main import NOUNS
from core.settings.tree import Settings
from tests.support.compose import BIN, Service, docker_compose, ports, read, seconds, shim
from tests.support.databases import PostgresServer
from tests.support.manifests import ROOT

#: The services that run permanently and without a GPU.
RUNNING = ("api", "control", "ledger", "deliverer", "feeder", "worker-cpu")
MODEL = "penstock-tiny"
OURS = ("migrate", *RUNNING, "worker")
STORES = ("redis", "postgres")
PROFILES = ("gpu", "observe")


@pytest.fixture(scope="module")
def env_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `.env` that the documented command makes."""
    path = tmp_path_factory.mktemp("compose") / ".env"
    command = [sys.executable, str(ROOT / "scripts/compose_env.py"), str(path)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    return path


@pytest.fixture(scope="module")
def project(env_file: Path) -> dict[str, Any]:
    """Everything, all profiles on."""
    return read(env_file, *PROFILES)


def test_it_follows_the_compose_specification() -> None:
    command = [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec"]
    file = str(ROOT / "docker-compose.yml")
    done = subprocess.run([*command, file], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout


def test_there_is_no_default_password(tmp_path: Path) -> None:
    empty = tmp_path / ".env"
    empty.touch()
    refused = docker_compose("--env-file", str(empty), "config")
    assert refused.returncode != 0
    assert "python3 scripts/compose_env.py" in refused.stderr


def test_passwords_are_made_once_and_for_their_owner_alone(env_file: Path) -> None:
    before = env_file.read_text()
    assert stat.S_IMODE(env_file.stat().st_mode) == 0o600
    command = [sys.executable, str(ROOT / "scripts/compose_env.py"), str(env_file)]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    assert env_file.read_text() == before
    values = [line.partition("=")[2] for line in before.splitlines()]
    assert len(set(values)) == len(values)
    assert all(len(value) >= 32 for value in values)


def test_a_pipeline_that_runs_beside_it_reads_the_same_env_file(env_file: Path) -> None:
    assert Settings(_env_file=env_file) == Settings(_env_file=None)


def test_one_command_starts_everything_but_gpu_and_monitoring(env_file: Path) -> None:
    assert set(read(env_file)["services"]) == {*OURS, *STORES} - {"worker"}


def test_every_variable_is_a_setting(project: dict[str, Any], tmp_path: Path) -> None:
    for name in OURS:
        service = project["services"][name]
        given = {n: v for n, v in service["environment"].items() if n.startswith("PENSTOCK_")}
        file = tmp_path / f"{name}.env"
        file.write_text("".join(f"{n}={v}\n" for n, v in given.items()))
        settings = Settings(_env_file=file)
        assert service["command"][0] in NOUNS
        if name.startswith("worker"):
            assert seconds(service["stop_grace_period"]) > settings.worker.grace_seconds + 5


def test_each_health_check_asks_the_port_of_its_process(project: dict[str, Any]) -> None:
    settings = Settings(_env_file=None)
    asked = {
        name: project["services"][name]["healthcheck"]["test"][-1]
        for name in OURS
        if name != "migrate"
    }
    worker = f"http://127.0.0.1:{settings.worker.health_port}/ready"
    assert asked == {
        "api": f"http://127.0.0.1:{settings.api.port}/ready",
        "control": f"http://127.0.0.1:{settings.control.health_port}/health",
        "ledger": f"http://127.0.0.1:{settings.billing.health_port}/health",
        "feeder": f"http://127.0.0.1:{settings.batches.health_port}/health",
        "deliverer": f"http://127.0.0.1:{settings.webhooks.health_port}/health",
        "worker": worker,
        "worker-cpu": worker,
    }


def test_it_comes_up_in_order(project: dict[str, Any]) -> None:
    for name in OURS:
        service = project["services"][name]
        waits = {on: how["condition"] for on, how in service["depends_on"].items()}
        wanted = {}
        if "PENSTOCK_REDIS__URL" in service["environment"]:
            wanted["redis"] = "service_healthy"
        if "PENSTOCK_DATABASE__URL" in service["environment"]:
            on = "postgres" if name == "migrate" else "migrate"
            wanted[on] = (
                "service_healthy" if name == "migrate" else "service_completed_successfully"
            )
        assert waits == wanted, name


def test_the_api_believes_its_own_machine_and_no_other_container(project: dict[str, Any]) -> None:
    subnet = ip_network(project["networks"]["public"]["ipam"]["config"][0]["subnet"])
    trusted = project["services"]["api"]["environment"]["PENSTOCK_API__TRUSTED_PROXIES"]
    # Without another gateway in the file, Docker takes the first address.
    assert [ip_network(text) for text in json.loads(trusted)] == [ip_network(subnet[1])]


def test_only_who_needs_a_store_can_reach_it(project: dict[str, Any]) -> None:
    for name in OURS:
        service = project["services"][name]
        for variable, network in (("REDIS", "redis"), ("DATABASE", "database")):
            given = f"PENSTOCK_{variable}__URL" in service["environment"]
            assert (network in service["networks"]) == given, (name, network)
    for store, network in (("redis", "redis"), ("postgres", "database")):
        assert set(project["services"][store]["networks"]) == {network}
        assert project["networks"][network]["internal"] is True
        assert "ports" not in project["services"][store]


def test_everything_is_locked_up_and_published_to_this_machine_alone(
    project: dict[str, Any],
) -> None:
    for name, service in project["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
        assert not service.get("privileged"), name
        assert ":" in service["image"], name
        assert not service["image"].endswith(":latest"), name
        for port in service.get("ports", []):
            assert port["host_ip"] == "127.0.0.1", name


def test_prometheus_scrapes_every_process_at_its_port(project: dict[str, Any]) -> None:
    scrapes = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
    found = set()
    for job in scrapes["scrape_configs"]:
        for target in job.get("static_configs", []):
            found |= {tuple(one.split(":")) for one in target["targets"]}
        for target in job.get("dns_sd_configs", []):
            found |= {(name, str(target["port"])) for name in target["names"]}
    for name in OURS:
        if name != "migrate":
            url = urlsplit(project["services"][name]["healthcheck"]["test"][-1])
            assert (name, str(url.port)) in found, name
    reached = project["services"]["prometheus"]["networks"]
    assert all(
        set(project["services"][n]["networks"]) & set(reached) for n in OURS if n != "migrate"
    )
    assert {name for name, _ in found} <= set(project["services"])


def test_every_folder_it_mounts_is_there(project: dict[str, Any]) -> None:
    for name, service in project["services"].items():
        for volume in service.get("volumes", []):
            if volume["type"] == "bind":
                assert Path(volume["source"]).exists(), (name, volume["source"])
                assert volume["read_only"] is True


def first_job(api: Service, port: int) -> dict[str, Any]:
    """Make a key as `docker compose exec api` does, and wait for a job with it."""
    key = api.exec("penstock", "keys", "create", "acme").strip()
    body = {"url": "/v1/completions", "body": {"model": MODEL, "prompt": "hello", "max_tokens": 8}}
    answer = httpx2.post(
        f"http://127.0.0.1:{port}/v1/jobs",
        json=body,
        headers={"Authorization": f"Bearer {key}", "Prefer": "wait=20"},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    job: dict[str, Any] = answer.json()
    return job


# --- every command, as a plain process ----------------------------------------------------


@pytest.fixture
def postgres() -> Iterator[tuple[PostgresServer, int]]:
    """A server that listens as the container's does."""
    port = ports("postgres")["postgres"]
    server = PostgresServer(port=port)
    server.start()
    yield server, port
    server.remove()


async def test_every_command_and_health_check_runs(
    env_file: Path, tmp_path: Path, postgres: tuple[PostgresServer, int]
) -> None:
    server, postgres_port = postgres
    with connect(server.url()) as connection:
        connection.execute("CREATE DATABASE penstock")
    chosen = ports("redis", "api", "control", "ledger", "deliverer", "feeder", "worker")
    substitutions = {
        r"@redis:6379": f"@127.0.0.1:{chosen['redis']}",
        r"@postgres:5432": f"@127.0.0.1:{postgres_port}",
        r"^/data$": str(tmp_path),
        r"^/etc/redis/users\.conf$": str(tmp_path / "users.conf"),
        r"127\.0\.0\.1:8080": f"127.0.0.1:{chosen['api']}",
        r"127\.0\.0\.1:8083": f"127.0.0.1:{chosen['control']}",
        r"127\.0\.0\.1:8082": f"127.0.0.1:{chosen['ledger']}",
        r"127\.0\.0\.1:8085": f"127.0.0.1:{chosen['deliverer']}",
        r"127\.0\.0\.1:8084": f"127.0.0.1:{chosen['feeder']}",
        r"^file:///files$": f"file://{tmp_path}/files",
        r"127\.0\.0\.1:8081": f"127.0.0.1:{chosen['worker']}",
        r"^0\.0\.0\.0$": "127.0.0.1",
    }
    # Containers have their own ports, here they are shared. Other tests load vLLM.
    shared = {
        "PENSTOCK_API__PORT": chosen["api"],
        "PENSTOCK_CONTROL__HEALTH_PORT": chosen["control"],
        "PENSTOCK_BILLING__HEALTH_PORT": chosen["ledger"],
        "PENSTOCK_BATCHES__HEALTH_PORT": chosen["feeder"],
        "PENSTOCK_WEBHOOKS__HEALTH_PORT": chosen["deliverer"],
        "PENSTOCK_WORKER__HEALTH_PORT": chosen["worker"],
        "PENSTOCK_ENGINE__KIND": "simulated",
    }
    project = read(env_file)
    specs = project["services"]
    (tmp_path / "users.conf").write_text(project["configs"]["redis-users"]["content"])
    for name in set(OURS) & set(specs):
        specs[name]["environment"] |= {n: str(v) for n, v in shared.items()}
    specs["redis"]["command"] += ["--port", str(chosen["redis"]), "--bind", "127.0.0.1"]
    shim(tmp_path, "valkey-cli", f"redis-cli -p {chosen['redis']}")
    shim(tmp_path, "pg_isready", f"{programs() / 'pg_isready'} -p {postgres_port}")
    services = {name: Service(name, spec, tmp_path, substitutions) for name, spec in specs.items()}
    running: list[Service] = []
    try:
        assert services["postgres"].check() == 0
        assert services["redis"].check() != 0, "it does not run yet"
        running.append(services["redis"])
        services["redis"].start()
        with pytest.raises(redis.AuthenticationError):
            redis.Redis(port=chosen["redis"], protocol=2).ping()

        assert services["migrate"].run() == 0, services["migrate"].output()
        for name in RUNNING:
            assert services[name].check() != 0, f"{name} does not run yet"
            services[name].begin()
            running.append(services[name])
        for name in RUNNING:
            services[name].wait_until_ready()
        assert first_job(services["api"], chosen["api"])["status"] == "completed"
    finally:
        codes = {service.name: service.stop() for service in reversed(running)}
    assert codes == dict.fromkeys(codes, 0)
    assert set(codes) == {"redis", *RUNNING}
    assert not any(name.startswith("PENSTOCK_") for name in os.environ)
