"""The release workflow: few rights, pinned actions, no tag before scan and signature, no host."""

import re
from typing import Any

import pytest
import yaml

from tests.support.manifests import ROOT, Manifests

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
RELEASE: dict[Any, Any] = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
JOBS: dict[str, Any] = RELEASE["jobs"]


def steps(job: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = JOBS[job]["steps"]
    return found


def place(job: str, text: str) -> int:
    """Return the place of the only step that uses or runs something."""
    found = [
        i for i, step in enumerate(steps(job)) if text in f"{step.get('uses')} {step.get('run')}"
    ]
    assert len(found) == 1, text
    return found[0]


def test_only_a_tag_starts_it() -> None:
    assert RELEASE[True] == {"push": {"tags": ["v[0-9]+.[0-9]+.[0-9]+*"]}}, (
        "yaml reads `on` as true"
    )


def test_each_job_has_the_rights_that_it_needs_and_no_others() -> None:
    assert RELEASE["permissions"] == {}
    rights = {name: job["permissions"] for name, job in JOBS.items()}
    for signing in ("images", "chart"):
        assert rights.pop(signing) == {"contents": "read", "id-token": "write"}
    assert all(given == {"contents": "read"} for given in rights.values())


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_and_leave_no_credentials(path: Any) -> None:
    workflow = yaml.safe_load(path.read_text())
    for job in workflow["jobs"].values():
        for step in job.get("steps", []):
            action = step.get("uses")
            if action is not None:
                assert re.fullmatch(r"[\w.-]+/[\w.-]+@(v\d+|[0-9a-f]{40})", action), action
            if action and action.startswith("actions/checkout@") and path.stem == "release":
                assert step["with"]["persist-credentials"] is False


def test_nothing_from_outside_is_pasted_into_a_script() -> None:
    """Expressions in `run` are replaced before the shell reads it; variables are not."""
    for job in JOBS.values():
        for step in job.get("steps", []):
            assert "${{" not in step.get("run", ""), step["name"]


def test_an_image_is_scanned_and_signed_before_it_gets_its_tag() -> None:
    order = [
        place("images", "docker/build-push-action"),
        place("images", "anchore/sbom-action"),
        place("images", "anchore/scan-action"),
        place("images", "cosign sign"),
        place("images", "imagetools create"),
    ]
    assert order == sorted(order)
    build = steps("images")[order[0]]["with"]
    assert "push-by-digest=true" in build["outputs"]
    assert "tags" not in build
    scan = steps("images")[order[2]]["with"]
    assert scan["fail-build"] is True
    digest = "${{ steps.build.outputs.digest }}"
    assert digest in steps("images")[order[1]]["with"]["image"]
    assert scan["sbom"] == steps("images")[order[1]]["with"]["output-file"]
    for later in order[3:]:
        assert steps("images")[later]["env"]["DIGEST"] == digest


def test_the_chart_is_made_from_the_manifests_and_signed() -> None:
    made = steps("chart")[place("chart", "scripts/helm_chart.py")]["run"]
    assert (ROOT / "scripts/helm_chart.py").exists()
    assert "helm lint" in made
    assert place("chart", "helm push") < place("chart", "cosign sign")
    (step,) = (step for step in steps("chart") if "cosign sign" in step.get("run", ""))
    assert step["env"]["DIGEST"] == "${{ steps.push.outputs.digest }}"


def test_checks_come_before_images_and_images_before_staging() -> None:
    assert JOBS["check"]["uses"] == "./.github/workflows/ci.yml"
    assert "check" in JOBS["images"]["needs"]
    assert "images" in JOBS["staging"]["needs"]
    assert JOBS["staging"]["environment"] == "staging"


def test_the_images_that_are_deployed_are_published() -> None:
    published = {
        one["image"]: one["target"] for one in JOBS["images"]["strategy"]["matrix"]["include"]
    }
    deployed = {
        container.spec["image"].partition(":")[0]
        for overlay in ("dev", "staging", "prod")
        for container in Manifests(overlay).containers()
    }
    assert set(published) == {image for image in deployed if image.startswith("penstock")}
    targets = re.findall(r"^FROM \S+ AS (\S+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert set(published.values()) <= set(targets)


def test_staging_waits_for_what_its_overlay_has() -> None:
    staging = Manifests("staging")
    script = steps("staging")[-1]["run"]
    (namespace,) = staging.of("Namespace")
    assert JOBS["staging"]["env"]["NAMESPACE"] == namespace
    listed = re.search(r"for name in ([\w ]+);", script)
    assert listed is not None
    deployments = {f"penstock-{name}" for name in listed[1].split()}
    workers = {name for name in staging.of("Deployment") if name.startswith("penstock-worker")}
    assert deployments == set(staging.of("Deployment")) - workers, "workers are scaled to zero"


def test_no_registry_is_named() -> None:
    text = (ROOT / ".github/workflows/release.yml").read_text()
    assert "${{ vars.REGISTRY }}" in text
    assert not re.search(r"\b[\w-]+\.(io|com|dev)/", text.replace("org.opencontainers", ""))
