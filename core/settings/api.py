"""Settings of the HTTP API: where it listens, limits of one request, and event streams."""

from typing import Annotated

from pydantic import Field, IPvAnyNetwork, StringConstraints

from core.settings.base import SettingsGroup

Origin = Annotated[str, StringConstraints(pattern=r"^(\*|https?://[^/\s]+)$")]


class LimitSettings(SettingsGroup):
    """Limits of one request and of one run."""

    header_seconds: float = Field(
        default=10.0,
        gt=0,
        description="Seconds for a request's headers, and for the rest of a body after its answer.",
    )
    header_bytes: int = Field(
        default=32_768, ge=1_000, description="Maximum size of all headers in bytes."
    )
    header_count: int = Field(default=100, ge=10, description="Maximum number of headers.")
    body_bytes: int = Field(
        default=2_000_000,
        ge=1_000,
        description="Maximum size in bytes of a body that is a request to a model.",
    )
    small_body_bytes: int = Field(
        default=65_536,
        ge=1_000,
        description="Maximum size in bytes of the bodies of all other routes except uploads.",
    )
    pending_body_bytes: int = Field(
        default=67_108_864,
        ge=100_000,
        description="Bytes of bodies that are still arriving, together, in one API process; above"
        " it, requests with more to send get 503.",
    )
    pending_body_bytes_per_address: int = Field(
        default=16_777_216,
        ge=0,
        description="The same, from one client address (see `api.trusted_proxies`); above it, 429."
        " 0: no limit.",
    )
    connections: int = Field(
        default=8_192,
        ge=16,
        description="Connections to one API process; requests on more of them get 503, except"
        " health probes.",
    )
    connections_per_address: int = Field(
        default=4_096,
        ge=0,
        description="Connections from one address that is not a trusted proxy to one API process;"
        " requests on more of them get 429. An IPv6 network of 64 bits is one address."
        " 0: no limit.",
    )
    body_seconds: float = Field(
        default=30.0, gt=0, description="Seconds for a body, before the extension below."
    )
    body_bytes_per_second: int = Field(
        default=10_000,
        ge=1,
        description="Bytes of a body that extend its time by one second when they arrive.",
    )
    prompt_characters: int = Field(
        default=1_000_000, ge=1, description="Maximum length of a prompt or chat in characters."
    )
    prompt_items: int = Field(
        default=2_048, ge=1, description="Maximum number of messages, and of parts of a message."
    )
    failures_per_minute: int = Field(
        default=300,
        ge=0,
        description="Jobs of an account that may fail in a minute; above it, submissions get 429."
        " 0: no limit.",
    )
    requests_per_minute_per_address: int = Field(
        default=0,
        ge=0,
        description="Jobs a minute that are accepted from one client address, of all keys together;"
        " addresses of one IPv6 site (/64) count as one. 0: no limit.",
    )
    request_burst_seconds: float = Field(
        default=60.0,
        ge=0.001,
        le=300,
        description="How many seconds' worth of a limit in requests a minute may be accepted at"
        " once; at least one request.",
    )
    token_burst_seconds: float = Field(
        default=60.0,
        ge=0.001,
        le=300,
        description="The same for limits in tokens a minute. A request for more tokens than that"
        " gets 422 `limit-too-small`.",
    )
    run_seconds: float = Field(
        default=600.0, gt=0, description="Maximum seconds that one attempt of a job runs."
    )
    wait_seconds: float = Field(
        default=60.0, gt=0, description="Maximum seconds that a client may ask to wait."
    )
    sync_seconds: float = Field(
        default=600.0, gt=0, description="Seconds a synchronous request waits for its result."
    )
    metadata_bytes: int = Field(
        default=16_384, ge=0, description="Maximum size of a job's metadata in bytes."
    )


class StreamSettings(SettingsGroup):
    """How events reach clients, and how a worker groups its writes."""

    ping_seconds: float = Field(
        default=15.0,
        gt=0,
        description="Seconds without an event until a stream sends a comment; it keeps proxies"
        " from closing the connection.",
    )
    hold_seconds: float = Field(
        default=0.5,
        ge=0,
        description="Maximum seconds that a new stream waits for its first output before it sends"
        " its status. An error in this time is an HTTP error; later ones are events.",
    )
    retry_milliseconds: int = Field(
        default=2_000,
        ge=0,
        description="Milliseconds a client should wait before it reconnects (`retry:`).",
    )
    buffer_events: int = Field(
        default=512, ge=16, description="Events buffered for one slow client."
    )
    replay_events: int = Field(
        default=512, ge=16, description="Events read from the log in one call during replay."
    )
    send_timeout_seconds: float = Field(
        default=30.0,
        gt=0,
        description="Seconds until a client that reads nothing is disconnected; it may resume.",
    )
    events_per_second: int = Field(
        default=800,
        ge=1,
        description="Events per second above which a worker writes several steps together.",
    )
    flush_seconds: float = Field(
        default=0.05,
        ge=0,
        description="Maximum seconds between two events of a stream when steps are written"
        " together.",
    )
    unwatched_flush_seconds: float = Field(
        default=0.1, ge=0, description="Seconds between two writes of a job without a reader."
    )
    unwatched_flush_tokens: int = Field(
        default=64,
        ge=1,
        description="Tokens after which a job without a reader is written earlier.",
    )


class ApiSettings(SettingsGroup):
    """The HTTP server."""

    host: str = Field(default="127.0.0.1", description="Address on which the API listens.")
    port: int = Field(
        default=8080,
        ge=0,
        le=65535,
        description="Port on which the API listens; 0: any free port (only with `penstock up`).",
    )
    trusted_proxies: list[IPvAnyNetwork] = Field(
        default_factory=list,
        description="Networks of proxies whose `X-Forwarded-For` is trusted, for example"
        ' `["10.0.0.0/8"]`.',
    )
    cors_origins: list[Origin] = Field(
        default_factory=list,
        description="Origins of web pages that may call the API, for example"
        ' `["https://app.example"]`.',
    )
