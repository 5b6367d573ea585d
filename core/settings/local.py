"""Settings of `penstock up`."""

from pydantic import Field

from core.settings.base import SettingsGroup


class UpSettings(SettingsGroup):
    """How long `penstock up` waits for its processes; they do not read these settings."""

    start_seconds: float = Field(
        default=300.0,
        gt=0,
        description="Seconds that each process, and Redis, may take to start.",
    )
    worker_start_seconds: float = Field(
        default=1_800.0,
        gt=0,
        description="Seconds that the worker may take to load its model; a large model from a slow"
        " disk takes long.",
    )
