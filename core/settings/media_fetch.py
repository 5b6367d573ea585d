"""Settings of fetching media that a request names by URL, and of what they may reach."""

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from core.settings.base import COMMA_SEPARATED_TOO, SettingsGroup
from core.settings.webhooks import Network, Port


class MediaFetchSettings(SettingsGroup):
    """Whether media are fetched from URLs when a job is submitted, from where, and how many."""

    enabled: bool = Field(
        default=False,
        description="Fetch the images, videos and audio that a request names by URL. Otherwise"
        " only `data:` URLs are accepted.",
    )
    hosts: Annotated[list[str], COMMA_SEPARATED_TOO] = Field(
        default_factory=list,
        description='Hosts to fetch from, for example `["images.example.com", "*.example.org"]`;'
        " `*.` stands for every name below. Empty: any public host.",
    )
    require_https: bool = Field(default=True, description="Refuse `http` URLs.")
    ports: Annotated[list[Port], COMMA_SEPARATED_TOO] = Field(
        default=[80, 443], description="Ports to fetch from. Empty: any port."
    )
    allow_networks: Annotated[list[Network], COMMA_SEPARATED_TOO] = Field(
        default_factory=list,
        description='Private networks to fetch from, for example `["10.1.0.0/16"]`; other private'
        " networks are never reached.",
    )
    ca_file: Path | None = Field(
        default=None,
        description="PEM file of certificates that are trusted besides the public ones.",
    )
    connect_seconds: float = Field(
        default=5.0, gt=0, description="Seconds for a server to accept a connection."
    )
    total_seconds: float = Field(
        default=10.0,
        gt=0,
        le=60,
        description="Maximum seconds for all media of one request, the wait for a free place"
        " included.",
    )
    redirects: int = Field(
        default=3,
        ge=0,
        le=10,
        description="Maximum number of redirects of one URL; each is checked like a URL.",
    )
    concurrency: int = Field(
        default=32, ge=1, le=1_000, description="Maximum number of concurrent fetches per process."
    )
    concurrency_per_account: int = Field(
        default=4,
        ge=1,
        description="Maximum number of concurrent fetches of one account, per process; further"
        " ones wait.",
    )

    @field_validator("hosts")
    @classmethod
    def _lower_case(cls, hosts: list[str]) -> list[str]:
        if any("*" in host.removeprefix("*.") or not host.removeprefix("*.") for host in hosts):
            raise ValueError("expected names such as images.example.com or *.example.org")
        return [host.lower() for host in hosts]

    @model_validator(mode="after")
    def _connect_within_total(self) -> Self:
        if self.connect_seconds > self.total_seconds:
            text = "media_fetch.connect_seconds must not exceed media_fetch.total_seconds"
            raise ValueError(text)
        return self

    @model_validator(mode="after")
    def _concurrency(self) -> Self:
        # Otherwise one account could use all places.
        if self.concurrency_per_account >= self.concurrency:
            raise ValueError(
                "media_fetch.concurrency must be more than media_fetch.concurrency_per_account"
            )
        return self

    @property
    def networks(self) -> tuple[Network, ...]:
        """The private networks that may be reached."""
        return tuple(self.allow_networks)

    @property
    def open_ports(self) -> frozenset[int]:
        """The ports that may be reached; an empty set means any port."""
        return frozenset(self.ports)

    def allows(self, host: str) -> bool:
        """Return whether a host is one to fetch from, as far as the name tells."""
        name = host.lower().rstrip(".")
        return not self.hosts or any(
            name.endswith(known[1:]) if known.startswith("*.") else name == known
            for known in self.hosts
        )
