"""The one settings tree, read from `PENSTOCK_*` variables (`__` between levels) or a `.env` file.

Invariant: combinations that could lose work (a lease shorter than three heartbeats, a
grace period shorter than the drain) do not start. Only entry points call `get_settings`;
everything else takes its group as an argument.
"""

from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
from typing import Literal, Self

from pydantic import AliasChoices, BaseModel, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.sources import DotEnvSettingsSource

from core.settings.api import ApiSettings, LimitSettings, StreamSettings
from core.settings.auth import AuthSettings
from core.settings.base import DotEnvSource, EnvironmentSource
from core.settings.batches import BatchSettings, FileSettings
from core.settings.billing import BillingSettings, DatabaseSettings, SellerSettings
from core.settings.complexity import ComplexitySettings, MediaSettings
from core.settings.engine import BreakerSettings, EngineSettings
from core.settings.invalid_settings import InvalidSettings, describe
from core.settings.local import UpSettings
from core.settings.media_fetch import MediaFetchSettings
from core.settings.observability import LogSettings, MetricsSettings, TraceSettings
from core.settings.planning import PlanningSettings
from core.settings.queue import QueueSettings, RetentionSettings, RetrySettings
from core.settings.redis import LeaseSettings, RedisSettings
from core.settings.tokeniser import TokeniserSettings
from core.settings.webhooks import WebhookSettings
from core.settings.workers import ControlSettings, WorkerSettings

PREFIX = "PENSTOCK_"


class Settings(BaseSettings):
    """All settings, in groups."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_file=".env",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    redis: RedisSettings = RedisSettings()
    lease: LeaseSettings = LeaseSettings()
    queue: QueueSettings = QueueSettings()
    retry: RetrySettings = RetrySettings()
    limits: LimitSettings = LimitSettings()
    complexity: ComplexitySettings = ComplexitySettings()
    media: MediaSettings = MediaSettings()
    media_fetch: MediaFetchSettings = MediaFetchSettings()
    tokeniser: TokeniserSettings = TokeniserSettings()
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
    up: UpSettings = UpSettings()
    log: LogSettings = LogSettings()
    metrics: MetricsSettings = MetricsSettings()
    trace: TraceSettings = TraceSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - replaced
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read arguments, then the environment, then our lines of `.env`."""
        file = (
            dotenv_settings.env_file if isinstance(dotenv_settings, DotEnvSettingsSource) else None
        )
        environment = EnvironmentSource(settings_cls)
        dotenv = DotEnvSource(settings_cls, env_file=file)
        return init_settings, environment, dotenv, file_secret_settings

    @model_validator(mode="after")
    def _lease_over_timeout(self) -> Self:
        # A broken connection must be detected while the lease is still valid.
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
    """Read the environment once.

    Raises:
        InvalidSettings: naming each wrong variable.
    """
    try:
        return Settings()
    except ValidationError as error:
        raise InvalidSettings(*describe(error, PREFIX, dict(_variables(Settings)))) from None
    except (OSError, UnicodeError):  # the error's text would have the file's bytes in it
        raise InvalidSettings(".env: expected a file of UTF-8 text that can be read") from None


def _variables(group: type[BaseModel], path: str = PREFIX) -> Iterator[tuple[str, str]]:
    """Yield each variable that is read, with its present name, which differs for an old name."""
    for name, field in group.model_fields.items():
        variable = path + name.upper()
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _variables(kind, f"{variable}__")
        alias = field.validation_alias
        for choice in alias.choices if isinstance(alias, AliasChoices) else [name]:
            yield path + str(choice).upper(), variable


def log_format() -> Literal["json", "console"]:
    """Return the format of logs; also when other settings are wrong."""
    groups = EnvironmentSource(Settings)()
    with suppress(OSError, UnicodeError):
        groups = {**DotEnvSource(Settings, env_file=".env")(), **groups}
    log = groups.get("log")
    console = isinstance(log, dict) and log.get("format") == "console"
    return "console" if console else "json"
