"""Every overlay, rendered once, and an overlay with one change."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.manifests import OVERLAYS, ROOT, Manifests


@pytest.fixture(scope="session", params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> Manifests:
    """One overlay after the other."""
    return Manifests(request.param)


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., Manifests]:
    """Render an overlay after one change in a copy of `k8s/`."""

    def change(overlay: str, file: str, before: str, after: str) -> Manifests:
        folder = tmp_path / f"k8s-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(ROOT / "k8s", folder)
        path = folder / file
        assert before in path.read_text(), file
        path.write_text(path.read_text().replace(before, after, 1))
        return Manifests(os.path.relpath(folder / "overlays" / overlay, ROOT / "k8s/overlays"))

    return change
