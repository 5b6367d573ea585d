"""Settings of logs, metrics and traces."""

from typing import Literal

from pydantic import Field, SecretStr

from core.settings.base import SettingsGroup
from core.settings.urls import WebUrl


class LogSettings(SettingsGroup):
    """Logs: JSON for machines, console for people."""

    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Lowest level that is logged."
    )
    format: Literal["json", "console"] = Field(
        default="json", description="`json`, or `console` for people."
    )
    requests: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share of requests to the API that are logged, one line for each. Answers from"
        " 400 on are logged always, except with 0, which logs none.",
    )


class MetricsSettings(SettingsGroup):
    """Who may read the metrics."""

    token: SecretStr | None = Field(
        default=None,
        min_length=16,
        description="Bearer token that `/metrics` of every process needs. Unset: none.",
    )


class TraceSettings(SettingsGroup):
    """Traces by OTLP over HTTP; off without an endpoint."""

    endpoint: WebUrl = Field(
        default="",
        description="OTLP/HTTP endpoint, for example `http://127.0.0.1:4318`. Empty: no traces.",
    )
    ratio: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share of new traces that is recorded; a client's `traceparent` decides for"
        " its own trace.",
    )
    join_clients: bool = Field(
        default=True,
        description="Join the trace of a client's `traceparent`; false for untrusted clients.",
    )
    export_seconds: float = Field(
        default=1.0, gt=0, description="Seconds between two exports of spans."
    )
    timeout_seconds: float = Field(
        default=5.0, gt=0, description="Seconds to wait for the endpoint's answer."
    )
    queue_spans: int = Field(
        default=8_192,
        ge=64,
        description="Maximum number of spans kept while the endpoint is unreachable; further spans"
        " are dropped and counted.",
    )
