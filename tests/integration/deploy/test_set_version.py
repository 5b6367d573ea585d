"""`scripts/set_version.py` gives an overlay another version, and each version its migration."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.manifests import ROOT, Manifests

SCRIPT = str(ROOT / "scripts/set_version.py")


def set_version(overlay: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, str(overlay), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


@pytest.mark.parametrize("overlay", ["dev", "staging", "prod"])
def test_images_and_job_get_the_version(tmp_path: Path, overlay: str) -> None:
    shutil.copytree(ROOT / "k8s", tmp_path / "k8s")
    folder = tmp_path / "k8s/overlays" / overlay
    for version, words in (("0.2.0-rc.1", ("--registry", "example.com/team")), ("0.2.1", ())):
        done = set_version(folder, version, *words)
        assert done.returncode == 0, done.stderr
    manifests = Manifests(os.path.relpath(folder, ROOT / "k8s/overlays"))
    images = {container.spec["image"] for container in manifests.containers()}
    ours = {image for image in images if "penstock" in image}
    assert ours
    assert all(image.startswith("example.com/team/penstock-") for image in ours)
    assert all(image.endswith(":0.2.1") for image in ours)
    assert set(manifests.of("Job")) == {"penstock-migrate-0-2-1"}


@pytest.mark.parametrize(
    ("change", "version", "said"),
    [
        (("value: penstock-migrate-", "value: other-"), "0.2.0", "does not name the Job"),
        (("images:", "pictures:"), "0.2.0", "it has no `images`"),
        (("", ""), "not a tag", "'not a tag' is no tag of an image"),
    ],
)
def test_an_overlay_is_changed_wholly_or_not_at_all(
    tmp_path: Path, change: tuple[str, str], version: str, said: str
) -> None:
    file = tmp_path / "kustomization.yaml"
    before = (ROOT / "k8s/overlays/prod/kustomization.yaml").read_text().replace(*change)
    file.write_text(before)
    done = set_version(tmp_path, version)
    assert done.returncode == 1
    assert said in done.stderr
    assert file.read_text() == before
