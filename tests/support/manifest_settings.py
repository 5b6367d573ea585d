"""The settings that the manifests give each process, and the workers of each model."""

from pathlib import Path
from typing import Any

from core.settings.tree import Settings
from tests.support.manifests import Container, Manifests

SECRETS = {
    "penstock-redis/url": "redis://:password@redis:6379/0",
    "penstock-files/url": "s3://bucket/penstock?region=eu-central-1",
    "penstock-database/url": "postgresql+psycopg://penstock:password@postgres/penstock",
    "penstock-auth/jwt-secret": "0123456789abcdef0123456789abcdef",
}
STORES = ("redis", "postgres")
#: Variables of the libraries below.
OTHERS = ("HF_TOKEN", "HF_HUB_OFFLINE", "OMP_NUM_THREADS")


def settings_of(container: Container, directory: Path) -> Settings:
    """Read a container's variables as its process does, each misspelt one being an error."""
    file = directory / "container.env"
    lines = []
    for name, value in container.variables.items():
        if name.startswith("PENSTOCK_"):
            lines.append(f"{name}={SECRETS.get(value.removeprefix('secret:'), value)}\n")
    file.write_text("".join(lines))
    return Settings(_env_file=file)


def ours(manifests: Manifests) -> list[Container]:
    """Return the containers that run Penstock."""
    return [one for one in manifests.containers() if one.component not in STORES]


def one(manifests: Manifests, component: str) -> Container:
    """Return the only container of a component."""
    containers = [c for c in manifests.containers(init=False) if c.component == component]
    assert len(containers) == 1
    return containers[0]


def models(manifests: Manifests, tmp_path: Path) -> list[tuple[dict[str, Any], Settings]]:
    """Return each ScaledObject with the settings of the workers it scales."""
    found = []
    for scaled in manifests.of("ScaledObject").values():
        owner = f"Deployment/{scaled['spec']['scaleTargetRef']['name']}"
        (worker,) = [c for c in manifests.containers(init=False) if c.owner == owner]
        found.append((scaled["spec"], settings_of(worker, tmp_path)))
    assert found
    return found
