"""Settings of Redis and of the leases that are kept in it."""

from typing import Self

from pydantic import Field, SecretStr, model_validator

from core.settings.base import SettingsGroup
from core.settings.urls import RedisUrl


class RedisSettings(SettingsGroup):
    """The Redis server that holds live jobs."""

    url: RedisUrl = Field(
        default=SecretStr("redis://127.0.0.1:6399/0"),
        description="URL of the Redis server; `rediss://` uses TLS. Unless it is set,"
        " `penstock up` starts a Redis of its own.",
    )
    prefix: str = Field(
        default="penstock",
        pattern=r"^[a-z0-9_-]{1,32}$",
        description="First part of every key's name, so that installations can share a server.",
    )
    timeout_seconds: float = Field(
        default=2.0, gt=0, description="Seconds to wait for a connection or an answer."
    )
    max_connections: int = Field(
        default=64, ge=4, description="Maximum number of connections per process."
    )


class LeaseSettings(SettingsGroup):
    """A worker's claim on a running job. The defaults recover a killed worker's jobs in 5 s."""

    seconds: float = Field(
        default=4.0,
        gt=0,
        description="Seconds after a worker's last heartbeat until its jobs go to other workers;"
        " at least 3 heartbeats.",
    )
    heartbeat_seconds: float = Field(
        default=1.0, gt=0, description="Seconds between two renewals of a worker's leases."
    )
    sweep_seconds: float = Field(
        default=0.5,
        gt=0,
        description="Seconds between two sweeps, in which the control process looks for expired"
        " leases.",
    )

    @model_validator(mode="after")
    def _three_heartbeats(self) -> Self:
        if self.seconds < 3 * self.heartbeat_seconds:
            raise ValueError("lease.seconds must be at least 3 x lease.heartbeat_seconds")
        return self
