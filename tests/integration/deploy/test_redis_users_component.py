"""With `components/redis-users` in an overlay, each kind of process has its own Redis user."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

from core.runtime.child_process import ChildProcess, Program, free_port
from tests.integration.deploy.test_manifests import validate
from tests.support.manifests import ROOT, Manifests
from tests.support.redis_server import binary

KINDS = {"api", "control", "deliverer", "feeder", "ledger", "worker"}
LISTED = "  - ../../components/monitoring\n"
EXTRA = f"{LISTED}  - ../../components/redis-users\n"


def made(url: str) -> dict[str, str]:
    """Return what the documented command puts into the secret."""
    command = [sys.executable, str(ROOT / "scripts/redis_users.py"), url]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)
    secret = json.loads(done.stdout)
    validate(secret)
    assert secret["metadata"]["name"] == "penstock-redis-users"
    data: dict[str, str] = secret["stringData"]
    return data


@pytest.mark.parametrize("overlay", ["staging", "prod"])
def test_each_process_reads_the_url_of_its_own_user(
    changed: Callable[..., Manifests], overlay: str
) -> None:
    found = changed(overlay, f"overlays/{overlay}/kustomization.yaml", LISTED, EXTRA)
    for one in found.all:
        validate(one)
    users = {}
    for container in found.containers():
        url = container.variables.get("PENSTOCK_REDIS__URL")
        if url is not None:
            users[container.component] = url
    assert users == {kind: f"secret:penstock-redis-users/{kind}" for kind in KINDS}
    assert {*made("rediss://redis.example.com:6380/0")} == {*KINDS, "users.conf"}


def test_the_secret_has_the_rules_of_compose_and_new_passwords() -> None:
    first, second = made("redis://redis:6379/0"), made("redis://redis:6379/0")
    compose = (ROOT / "docker-compose.yml").read_text()
    for line in first["users.conf"].splitlines():
        user, password, rights = re.fullmatch(r"user (\w+) on >(\w+) (.*)", line).groups()  # type: ignore[union-attr]
        assert f"user {user} on >${{REDIS_{user.upper()}_PASSWORD}} {rights}\n" in compose
        assert first[user] == f"redis://{user}:{password}@redis:6379/0"
        assert first[user] != second[user]


@pytest.mark.parametrize("wrong", ["", "redis:6379", "redis://user:word@redis:6379/0"])
def test_a_url_that_cannot_be_meant_is_refused(wrong: str) -> None:
    command = [sys.executable, str(ROOT / "scripts/redis_users.py"), wrong]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (2, "")
    assert "redis://HOST:PORT/0" in done.stderr


def test_the_redis_of_the_cluster_knows_the_users_and_still_the_operator(
    changed: Callable[..., Manifests], tmp_path: Path
) -> None:
    staging = changed("staging", "overlays/staging/kustomization.yaml", LISTED, EXTRA)
    pod = staging.of("StatefulSet")["redis"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    (mount,) = [one for one in container["volumeMounts"] if one["name"] == "users"]
    (volume,) = [one for one in pod["volumes"] if one["name"] == "users"]
    (item,) = volume["secret"]["items"]
    place = f"{mount['mountPath']}/{item['path']}"
    port = free_port()
    data = made(f"redis://127.0.0.1:{port}/0")
    (tmp_path / "users.conf").write_text(data[item["key"]])
    here = {
        "valkey-server": binary("valkey"),
        place: str(tmp_path / "users.conf"),
        "/data": str(tmp_path),
        "$(REDIS_PASSWORD)": "operators",
    }
    words = [here.get(word, word) for word in [*container["command"], *container["args"]]]
    assert str(tmp_path / "users.conf") in words
    words += ["--port", str(port), "--bind", "127.0.0.1"]
    server = ChildProcess(Program("redis", words, tmp_path / "redis.log"))

    def client(url: str) -> Any:
        return redis.Redis.from_url(url, protocol=2)

    def answers() -> bool:
        try:
            return bool(client(f"redis://:operators@127.0.0.1:{port}/0").ping())
        except redis.ConnectionError:
            return False

    server.begin()
    try:
        server.wait_until(answers, 20)
        for kind in KINDS:
            assert client(data[kind]).acl_whoami() == kind
        with pytest.raises(redis.AuthenticationError):
            client(f"redis://127.0.0.1:{port}/0").ping()
    finally:
        server.stop()
