"""The one settings tree, read from `PENSTOCK_*` variables (`__` between levels) or a `.env` file.

Invariant: combinations that could lose work (a lease shorter than three heartbeats, a
grace period shorter than the drain) do not start. Only entry points call `get_settings`;
everything else takes its group as an argument.
"""

from datetime import timedelta
from decimal import Decimal
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    SecretStr,
    StringConstraints,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

Network = IPv4Network | IPv6Network

TINY_MODEL = Path(__file__).resolve().parent.parent / "models" / "tiny"


class SettingsGroup(BaseModel):
    """A nested group: unknown fields are errors, values are fixed after start."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RedisSettings(SettingsGroup):
    """Where live jobs are kept."""

    url: SecretStr = SecretStr("redis://127.0.0.1:6399/0")
    prefix: str = Field(default="penstock", pattern=r"^[a-z0-9_-]{1,32}$")
    timeout_seconds: float = Field(default=2.0, gt=0)
    max_connections: int = Field(default=64, ge=4)


class LeaseSettings(SettingsGroup):
    """A worker's claim on a running job. 4 s and a sweep of 0.5 s recover a killed one's in 5."""

    seconds: float = Field(default=4.0, gt=0)
    heartbeat_seconds: float = Field(default=1.0, gt=0)
    sweep_seconds: float = Field(default=0.5, gt=0)

    @model_validator(mode="after")
    def _three_heartbeats(self) -> Self:
        if self.seconds < 3 * self.heartbeat_seconds:
            raise ValueError("lease.seconds must be at least 3 x lease.heartbeat_seconds")
        return self


class QueueSettings(SettingsGroup):
    """Bounds and order of each model's queue."""

    max_queued: int = Field(default=200_000, ge=1)
    max_queued_per_account: int = Field(default=150_000, ge=1)
    ageing_seconds: float = Field(default=30.0, gt=0)
    ageing_every: int = Field(default=8, ge=2)
    max_batch: int = Field(default=64, ge=1, le=256)
    max_wait_seconds: float = Field(default=0.002, ge=0, le=1)
    shed_flex_at: float = Field(default=0.8, gt=0, le=1, description="share of max_queued")
    shed_default_at: float = Field(default=0.95, gt=0, le=1, description="share of max_queued")
    shed_wait_seconds: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _flex_is_shed_first(self) -> Self:
        if self.shed_flex_at > self.shed_default_at:
            raise ValueError("queue.shed_flex_at must not exceed queue.shed_default_at")
        return self


class RetrySettings(SettingsGroup):
    """How often and when a failed attempt is repeated."""

    max_attempts: int = Field(default=4, ge=1)
    base_seconds: float = Field(default=0.5, gt=0)
    cap_seconds: float = Field(default=30.0, gt=0)


class LimitSettings(SettingsGroup):
    """Bounds on one request and one run."""

    header_seconds: float = Field(default=10.0, gt=0)
    header_bytes: int = Field(default=32_768, ge=1_000)
    header_count: int = Field(default=100, ge=10)
    body_bytes: int = Field(default=2_000_000, ge=1_000)
    body_seconds: float = Field(default=30.0, gt=0)
    body_bytes_per_second: int = Field(default=10_000, ge=1)
    prompt_characters: int = Field(default=1_000_000, ge=1)
    prompt_items: int = Field(default=2_048, ge=1)
    run_seconds: float = Field(default=600.0, gt=0)
    wait_seconds: float = Field(default=60.0, gt=0)
    sync_seconds: float = Field(default=600.0, gt=0)
    metadata_bytes: int = Field(default=16_384, ge=0)


class ComplexitySettings(SettingsGroup):
    """Bounds on what one request makes an engine render, compile and compute for each token.

    The defaults are OpenAI's where it has some that are cheap enough: 1,000 values of enums, 128
    tools. Its 5,000 properties are not: with a vocabulary of 128,000 tokens, xgrammar 0.2.8 needs
    a second of one CPU for 1,000 optional properties, or for 300 numbers with both bounds.
    """

    schema_bytes: int = Field(default=131_072, ge=1)
    schema_depth: int = Field(default=64, ge=1, le=200, description="nested objects and arrays")
    schema_parts: int = Field(default=1_000, ge=1, description="properties, items, alternatives")
    schema_bounded_values: int = Field(default=250, ge=0)
    schema_enum_values: int = Field(default=1_000, ge=1)
    pattern_characters: int = Field(default=4_096, ge=1)
    pattern_depth: int = Field(default=32, ge=1, le=200)
    pattern_repetitions: int = Field(default=10_000, ge=1)
    grammar_bytes: int = Field(default=65_536, ge=1)
    grammar_rules: int = Field(default=500, ge=1)
    choices: int = Field(default=1_000, ge=1, description="of structured_outputs.choice")
    choice_characters: int = Field(default=65_536, ge=1)
    tools: int = Field(default=128, ge=1)
    tools_bytes: int = Field(default=262_144, ge=1)
    stop_strings: int = Field(default=32, ge=1)
    stop_token_ids: int = Field(default=1_024, ge=1)
    bad_words: int = Field(default=128, ge=1)
    bad_word_characters: int = Field(default=256, ge=1)
    logit_bias_entries: int = Field(default=1_024, ge=1)
    allowed_token_ids: int = Field(default=16_384, ge=1)
    n: int = Field(default=128, ge=1, le=128)
    logprobs: int = Field(default=20, ge=0, le=20)
    template_bytes: int = Field(default=16_384, ge=1, description="of chat_template_kwargs")


class MediaSettings(SettingsGroup):
    """Images, videos and audio in a request, for models that take them; URLs are never fetched."""

    parts: int = Field(default=16, ge=0, description="in one request")
    part_bytes: int = Field(default=700_000, ge=1, description="of one data URL or base64 text")


class StreamSettings(SettingsGroup):
    """How events reach watchers, and how appends are coalesced."""

    ping_seconds: float = Field(default=15.0, gt=0)
    retry_milliseconds: int = Field(default=2_000, ge=0)
    buffer_events: int = Field(default=512, ge=16)
    replay_events: int = Field(default=512, ge=16)
    send_timeout_seconds: float = Field(default=30.0, gt=0)
    events_per_second: int = Field(default=800, ge=1)
    flush_seconds: float = Field(default=0.05, ge=0)
    unwatched_flush_seconds: float = Field(default=0.1, ge=0)
    unwatched_flush_tokens: int = Field(default=64, ge=1)


class RetentionSettings(SettingsGroup):
    """How long finished jobs stay readable.

    `start` says when the clock starts: `finish`, or `archive` (the outbox consumer has the job).
    """

    seconds: int = Field(default=3_600, ge=1)
    dead_seconds: int = Field(default=604_800, ge=1, description="for jobs in the dead-letter list")
    tombstone_seconds: int = Field(default=86_400, ge=1)
    idempotency_seconds: int = Field(default=86_400, ge=1)
    start: Literal["finish", "archive"] = "finish"


class SimulatedSettings(SettingsGroup):
    """Latency model and scripted faults of the `simulated` engine (tests, load, planning)."""

    start_seconds: float = Field(default=0.0, ge=0)
    prefill_tokens_per_second: float = Field(default=50_000.0, gt=0)
    step_base_seconds: float = Field(default=0.004, ge=0)
    step_per_sequence_seconds: float = Field(default=0.00005, ge=0)
    faults: bool = Field(default=False, description="obey fault directives found in prompts")


ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$")]
Task = Literal["generate", "embed"]
Modality = Literal["text", "image", "video", "audio"]


class EngineSettings(SettingsGroup):
    """Which engine a worker drives and how. `simulated` must be asked for by name."""

    kind: Literal["vllm", "simulated"] = "vllm"
    model: str = str(TINY_MODEL)
    served_name: ModelName = "penstock-tiny"
    task: Task = "generate"
    core: Literal["in-process", "separate"] = "in-process"
    slots: int = Field(default=32, ge=1, le=1024)
    dtype: str = "bfloat16"
    max_model_len: int | None = Field(default=None, ge=16)
    enforce_eager: bool | None = None
    quantization: str | None = None
    gpu_memory_utilization: float = Field(default=0.9, gt=0, le=1)
    kv_cache_gib: int = Field(default=1, ge=1, description="CPU only: KV cache size in GiB")
    cpu_amx: bool = Field(default=False, description="CPU only: let vLLM use its AMX kernels")
    tool_parser: str | None = None
    reasoning_parser: str | None = None
    chat_template: Path | None = None
    extra_args: dict[str, object] = Field(default_factory=dict, description="passed to vLLM as is")
    simulated: SimulatedSettings = SimulatedSettings()


class BreakerSettings(SettingsGroup):
    """When an engine that keeps failing stops claiming, and when it is probed."""

    failures: int = Field(default=5, ge=1)
    window_seconds: float = Field(default=30.0, gt=0)
    cooldown_seconds: float = Field(default=5.0, gt=0)
    probe_timeout_seconds: float = Field(default=30.0, gt=0)


class WorkerSettings(SettingsGroup):
    """The worker process."""

    health_host: str = "127.0.0.1"
    health_port: int = Field(default=8081, ge=0, le=65535)
    drain_seconds: float = Field(default=2.0, ge=0)
    grace_seconds: float = Field(default=25.0, gt=0)
    deaf_seconds: float = Field(default=15.0, gt=0, description="without Redis: not live")
    hang_seconds: float = Field(default=60.0, gt=0, description="running, yet no step: engine dead")
    visibility_seconds: int = Field(default=3_600, ge=60)

    @model_validator(mode="after")
    def _grace_over_drain(self) -> Self:
        if self.grace_seconds < self.drain_seconds + 3:
            raise ValueError("worker.grace_seconds must exceed worker.drain_seconds by at least 3")
        return self


class DeclaredModel(SettingsGroup):
    """What jobs need to know of a model before any worker has said it."""

    max_model_len: int = Field(ge=16)
    task: Task = "generate"
    modalities: tuple[Modality, ...] = Field(default=("text",), min_length=1)


class ControlSettings(SettingsGroup):
    """The control process: the sweeper, what Redis shows for metrics, the models it makes known."""

    health_host: str = "127.0.0.1"
    health_port: int = Field(default=8083, ge=0, le=65535)
    models: dict[ModelName, DeclaredModel] = Field(default_factory=dict)


Origin = Annotated[str, StringConstraints(pattern=r"^(\*|https?://[^/\s]+)$")]


class ApiSettings(SettingsGroup):
    """The HTTP front."""

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    trusted_proxies: list[IPvAnyNetwork] = Field(default_factory=list)
    cors_origins: list[Origin] = Field(default_factory=list)


class OidcSettings(SettingsGroup):
    """An identity provider whose tokens are taken in place of a password; off without an issuer."""

    issuer: str = ""
    audience: str = ""
    jwks_url: str = ""
    email_claim: str = "email"
    require_verified: bool = True
    algorithms: list[Literal["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA"]] = (
        Field(default=["RS256", "ES256"], min_length=1)
    )
    timeout_seconds: float = Field(default=5.0, gt=0)

    @model_validator(mode="after")
    def _all_or_none(self) -> Self:
        if self.issuer and not (self.audience and self.jwks_url):
            raise ValueError("auth.oidc.issuer needs auth.oidc.audience and auth.oidc.jwks_url")
        return self


class AuthSettings(SettingsGroup):
    """How people sign in, and how keys get from SQL to Redis.

    `jwt_secret` signs the tokens of the API; it must be set, `penstock up` makes one of its own.
    """

    jwt_secret: SecretStr | None = Field(default=None, min_length=32)
    access_seconds: int = Field(default=900, ge=10, le=86_400)
    refresh_seconds: int = Field(default=2_592_000, ge=60)
    attempts: int = Field(default=10, ge=1)
    attempts_per_address: int = Field(default=100, ge=1)
    attempts_seconds: float = Field(default=300.0, gt=0)
    sync_seconds: float = Field(default=2.0, gt=0)
    oidc: OidcSettings = OidcSettings()


class FileSettings(SettingsGroup):
    """Where files are kept: a folder (`file:///...`) or a bucket of any S3-compatible store."""

    url: SecretStr = SecretStr("file:.penstock/files")
    max_bytes: int = Field(default=200_000_000, ge=1_000)
    account_bytes: int = Field(default=10_000_000_000, ge=1_000)
    uploads: int = Field(default=8, ge=1, description="under way at once in one API process")
    expire_days: int = Field(default=30, ge=1)
    sweep_seconds: float = Field(default=60.0, gt=0)
    orphan_seconds: float = Field(default=3_600.0, gt=0)

    @property
    def kept(self) -> timedelta:
        """How long a file is kept that does not say so itself."""
        return timedelta(days=self.expire_days)


class BatchSettings(SettingsGroup):
    """Bounds of a batch, and how its lines are fed to the queue.

    `window` lines of a batch are in the queue at once: as much as one batch makes workers scale up.
    """

    max_lines: int = Field(default=50_000, ge=1, le=1_000_000)
    max_errors: int = Field(default=1_000, ge=1, le=10_000)
    max_open_per_account: int = Field(default=100, ge=1)
    window: int = Field(default=1_000, ge=1, le=50_000)
    at_once: int = Field(default=32, ge=1, description="batches one process feeds at once")
    at_once_per_account: int = Field(default=4, ge=1, description="in all processes together")
    look_seconds: float = Field(default=0.5, gt=0)
    flush_seconds: float = Field(default=2.0, gt=0)
    lease_seconds: float = Field(default=6.0, ge=1)
    cancel_seconds: float = Field(default=600.0, gt=0)
    health_host: str = "127.0.0.1"
    health_port: int = Field(default=8084, ge=0, le=65535)


class DatabaseSettings(SettingsGroup):
    """Where accounts, prices, the ledger and finished jobs are kept for good."""

    url: SecretStr = SecretStr("sqlite+aiosqlite:///.penstock/penstock.db")
    timeout_seconds: float = Field(default=5.0, gt=0)
    statement_seconds: float = Field(default=15.0, gt=0)
    connections: int = Field(default=5, ge=1)


class BillingSettings(SettingsGroup):
    """How usage gets from the outbox into the ledger, and what tiers cost by default."""

    batch_events: int = Field(default=1_000, ge=1, le=10_000)
    claim_seconds: float = Field(default=15.0, gt=0)
    priority_multiplier: Decimal = Field(default=Decimal("1.50"), ge=0, decimal_places=2)
    flex_multiplier: Decimal = Field(default=Decimal("0.50"), ge=0, decimal_places=2)
    archive_days: int = Field(default=30, ge=1)
    budgets_when_unknown: Literal["refuse", "allow"] = "allow"
    health_host: str = "127.0.0.1"
    health_port: int = Field(default=8082, ge=0, le=65535)


class WebhookSettings(SettingsGroup):
    """How accounts are told of what happened, and whereto nothing is ever sent."""

    require_https: bool = True
    ports: str = Field(default="80,443,8080,8443", pattern=r"^(\d{1,5}(,\d{1,5})*)?$")
    allow_networks: str = Field(default="", description="private networks that may be reached")
    ca_file: Path | None = None
    connect_seconds: float = Field(default=5.0, gt=0)
    total_seconds: float = Field(default=15.0, gt=0, le=60)
    retry_seconds: str = Field(
        default="5,300,1800,7200,18000,36000,50400,72000,86400", pattern=r"^\d+(,\d+)*$"
    )
    disable_after_days: float = Field(default=3.0, gt=0)
    rotation_hours: float = Field(default=24.0, ge=0)
    retention_days: int = Field(default=30, ge=1)
    endpoints_per_account: int = Field(default=16, ge=1, le=1_000)
    at_once: int = Field(default=64, ge=1, le=1_000)
    at_once_per_account: int = Field(default=32, ge=1)
    at_once_per_host: int = Field(default=16, ge=1)
    health_host: str = "127.0.0.1"
    health_port: int = Field(default=8085, ge=0, le=65535)

    @model_validator(mode="after")
    def _readable(self) -> Self:
        try:
            _ = self.networks
        except ValueError as error:
            raise ValueError(f"webhooks.allow_networks: {error}") from None
        if self.connect_seconds > self.total_seconds:
            raise ValueError("webhooks.connect_seconds must not exceed webhooks.total_seconds")
        return self

    @model_validator(mode="after")
    def _places(self) -> Self:
        # Else one host would take all the places of its account, or one account all there are.
        if not self.at_once_per_host <= self.at_once_per_account <= self.at_once:
            raise ValueError(
                "webhooks.at_once must be at least webhooks.at_once_per_account, and that"
                " at least webhooks.at_once_per_host"
            )
        return self

    @model_validator(mode="after")
    def _kept_while_tried(self) -> Self:
        if 1.2 * sum(self.pauses) > self.retention_days * 86_400:
            raise ValueError("webhooks.retention_days must be longer than webhooks.retry_seconds")
        return self

    @property
    def networks(self) -> tuple[Network, ...]:
        """The private networks that may be reached."""
        return tuple(ip_network(text.strip()) for text in self.allow_networks.split(",") if text)

    @property
    def open_ports(self) -> frozenset[int]:
        """The ports that may be reached; none means any."""
        return frozenset(int(text) for text in self.ports.split(",") if text)

    @property
    def pauses(self) -> tuple[int, ...]:
        """Seconds from each failed attempt to the next."""
        return tuple(int(text) for text in self.retry_seconds.split(","))


class SellerSettings(SettingsGroup):
    """Who issues the invoices, as it stands on them; `|` begins a new line."""

    name: str = ""
    address: str = ""
    email: str = ""
    tax_id: str = ""
    payment: str = ""
    due_days: int = Field(default=30, ge=0)


class PlanningSettings(SettingsGroup):
    """What `penstock simulate` holds a plan to, and what it takes a GPU to cost."""

    slo_seconds: float = Field(default=2.0, gt=0)
    slo_share: float = Field(default=0.95, gt=0, le=1)
    slo_on: Literal["first_token", "claim"] = "first_token"
    gpu_hour_cost: Decimal = Field(default=Decimal("2.50"), ge=0)


class LogSettings(SettingsGroup):
    """Logs: JSON for machines, console for people."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: Literal["json", "console"] = "json"


class _OwnLines(DotEnvSettingsSource):
    """The lines of `.env` that are ours: Docker Compose keeps its passwords in the same file."""

    def _read_env_files(self) -> Any:
        own = self.env_prefix.lower()
        return {
            name: value
            for name, value in super()._read_env_files().items()
            if name.lower().startswith(own)
        }


class TraceSettings(SettingsGroup):
    """Traces by OTLP over HTTP; off without an endpoint."""

    endpoint: str = Field(default="", pattern=r"^(https?://\S+)?$")
    ratio: float = Field(default=1.0, ge=0, le=1)
    join_clients: bool = Field(default=True, description="a client's traceparent is joined")
    export_seconds: float = Field(default=1.0, gt=0)
    timeout_seconds: float = Field(default=5.0, gt=0)
    queue_spans: int = Field(default=8_192, ge=64)


class Settings(BaseSettings):
    """Everything that can be set, in groups."""

    model_config = SettingsConfigDict(
        env_prefix="PENSTOCK_",
        env_nested_delimiter="__",
        env_file=".env",
        extra="forbid",
        frozen=True,
    )

    redis: RedisSettings = RedisSettings()
    lease: LeaseSettings = LeaseSettings()
    queue: QueueSettings = QueueSettings()
    retry: RetrySettings = RetrySettings()
    limits: LimitSettings = LimitSettings()
    complexity: ComplexitySettings = ComplexitySettings()
    media: MediaSettings = MediaSettings()
    stream: StreamSettings = StreamSettings()
    retention: RetentionSettings = RetentionSettings()
    engine: EngineSettings = EngineSettings()
    breaker: BreakerSettings = BreakerSettings()
    worker: WorkerSettings = WorkerSettings()
    control: ControlSettings = ControlSettings()
    api: ApiSettings = ApiSettings()
    auth: AuthSettings = AuthSettings()
    files: FileSettings = FileSettings()
    batches: BatchSettings = BatchSettings()
    database: DatabaseSettings = DatabaseSettings()
    billing: BillingSettings = BillingSettings()
    webhooks: WebhookSettings = WebhookSettings()
    seller: SellerSettings = SellerSettings()
    planning: PlanningSettings = PlanningSettings()
    log: LogSettings = LogSettings()
    trace: TraceSettings = TraceSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read `.env` by its own lines alone; the rest is as it was."""
        if isinstance(dotenv_settings, DotEnvSettingsSource):
            dotenv_settings = _OwnLines(settings_cls, env_file=dotenv_settings.env_file)
        return init_settings, env_settings, dotenv_settings, file_secret_settings

    @model_validator(mode="after")
    def _lease_over_timeout(self) -> Self:
        # A connection that carries nothing any more must be given up while the lease still runs.
        if self.lease.seconds <= self.redis.timeout_seconds + self.lease.heartbeat_seconds:
            raise ValueError(
                "lease.seconds must exceed redis.timeout_seconds + lease.heartbeat_seconds"
            )
        return self

    @model_validator(mode="after")
    def _visibility_over_run(self) -> Self:
        if self.worker.visibility_seconds <= self.limits.run_seconds:
            raise ValueError("worker.visibility_seconds must exceed limits.run_seconds")
        return self


@lru_cache
def get_settings() -> Settings:
    """Read the environment once. Raises pydantic.ValidationError naming each bad field."""
    return Settings()
