"""Every overlay, rendered once."""

import pytest

from tests.support.manifests import OVERLAYS, Manifests


@pytest.fixture(scope="session", params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> Manifests:
    """One overlay after the other."""
    return Manifests(request.param)
