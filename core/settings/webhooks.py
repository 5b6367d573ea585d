"""Settings of webhook delivery, and of the addresses that it may reach."""

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Self

from pydantic import AliasChoices, Field, model_validator

from core.settings.base import COMMA_SEPARATED_TOO, SettingsGroup, health_host, health_port

Network = IPv4Network | IPv6Network
Port = Annotated[int, Field(ge=1, le=65535)]


class WebhookSettings(SettingsGroup):
    """How webhooks are delivered, and which addresses they may reach."""

    require_https: bool = Field(default=True, description="Refuse webhooks to `http` URLs.")
    ports: Annotated[list[Port], COMMA_SEPARATED_TOO] = Field(
        default=[80, 443, 8080, 8443],
        description="Ports that webhooks may reach. Empty: any port.",
    )
    allow_networks: Annotated[list[Network], COMMA_SEPARATED_TOO] = Field(
        default_factory=list,
        description="Private networks that webhooks may reach, for example"
        ' `["10.1.0.0/16", "127.0.0.0/8"]`; other private networks are never reached.',
    )
    ca_file: Path | None = Field(
        default=None,
        description="PEM file of certificates that are trusted besides the public ones.",
    )
    connect_seconds: float = Field(
        default=5.0, gt=0, description="Seconds for a receiver to accept a connection."
    )
    total_seconds: float = Field(
        default=15.0, gt=0, le=60, description="Maximum seconds of one attempt, all in all."
    )
    retry_seconds: Annotated[list[Annotated[int, Field(ge=0)]], COMMA_SEPARATED_TOO] = Field(
        default=[5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400],
        min_length=1,
        description="Seconds from each failed attempt to the next; up to a tenth is added at"
        " random.",
    )
    disable_after_days: float = Field(
        default=3.0,
        gt=0,
        description="Days without a successful delivery after which an endpoint is disabled.",
    )
    rotation_hours: float = Field(
        default=24.0,
        ge=0,
        description="Hours after a rotation in which the old secret signs deliveries too.",
    )
    retention_days: int = Field(
        default=30, ge=1, description="Days that events and their deliveries are kept."
    )
    endpoints_per_account: int = Field(
        default=16, ge=1, le=1_000, description="Maximum number of endpoints per account."
    )
    concurrency: int = Field(
        default=64,
        ge=1,
        le=1_000,
        validation_alias=AliasChoices("concurrency", "at_once"),
        description="Maximum number of concurrent deliveries per process.",
    )
    concurrency_per_account: int = Field(
        default=32,
        ge=1,
        validation_alias=AliasChoices("concurrency_per_account", "at_once_per_account"),
        description="Maximum number of concurrent deliveries of one account, per process. It never"
        " has more than there are free places, so it alone uses half of `webhooks.concurrency`.",
    )
    concurrency_per_host: int = Field(
        default=16,
        ge=1,
        validation_alias=AliasChoices("concurrency_per_host", "at_once_per_host"),
        description="Maximum number of concurrent deliveries of one account to one host, per"
        " process; it keeps a slow host from delaying others.",
    )
    health_host: str = health_host("deliverer")
    health_port: int = health_port("deliverer", 8085)

    @model_validator(mode="after")
    def _connect_within_total(self) -> Self:
        if self.connect_seconds > self.total_seconds:
            raise ValueError("webhooks.connect_seconds must not exceed webhooks.total_seconds")
        return self

    @model_validator(mode="after")
    def _concurrency(self) -> Self:
        # Otherwise one host could use all of its account's slots, or one account all slots.
        limits = self.concurrency_per_host, self.concurrency_per_account, self.concurrency
        if list(limits) != sorted(limits):
            raise ValueError(
                "webhooks.concurrency must be at least webhooks.concurrency_per_account, and that"
                " at least webhooks.concurrency_per_host"
            )
        return self

    @model_validator(mode="after")
    def _kept_while_tried(self) -> Self:
        if 1.2 * sum(self.retry_seconds) > self.retention_days * 86_400:
            raise ValueError("webhooks.retention_days must be longer than webhooks.retry_seconds")
        return self

    @property
    def networks(self) -> tuple[Network, ...]:
        """The private networks that may be reached."""
        return tuple(self.allow_networks)

    @property
    def open_ports(self) -> frozenset[int]:
        """The ports that may be reached; an empty set means any port."""
        return frozenset(self.ports)

    @property
    def pauses(self) -> tuple[int, ...]:
        """Seconds from each failed attempt to the next."""
        return tuple(self.retry_seconds)
