"""Settings of the queue: its bounds and order, retries, and how long finished jobs are kept."""

from typing import Literal, Self

from pydantic import Field, model_validator

from core.settings.base import SettingsGroup


class QueueSettings(SettingsGroup):
    """Bounds and order of each model's queue."""

    max_queued: int = Field(
        default=200_000,
        ge=1,
        description="Maximum number of waiting jobs per model; above it submissions get 429.",
    )
    max_queued_per_account: int = Field(
        default=150_000,
        ge=1,
        description="Maximum number of waiting jobs per model and account.",
    )
    ageing_seconds: float = Field(
        default=30.0,
        gt=0,
        description="Seconds a job of a lower tier waits before it may be claimed ahead of its"
        " turn.",
    )
    ageing_every: int = Field(
        default=8, ge=2, description="Every n-th claim takes such a job, if there is one."
    )
    max_batch: int = Field(
        default=64, ge=1, le=256, description="Maximum number of jobs that one claim takes."
    )
    max_wait_seconds: float = Field(
        default=0.002,
        ge=0,
        le=1,
        description="Seconds a busy worker collects tickets before it claims jobs for them.",
    )
    apart_wait_seconds: float = Field(
        default=2.0,
        ge=0,
        description="Seconds a job that may have stopped a worker waits for one that runs nothing;"
        " then a worker stops claiming for it.",
    )
    apart_share: float = Field(
        default=0.25,
        gt=0,
        le=1,
        description="Share of a model's workers that may run such jobs at a time; at least one.",
    )
    shed_flex_at: float = Field(
        default=0.8,
        gt=0,
        le=1,
        description="Share of `queue.max_queued` from which jobs of tier `flex` are refused.",
    )
    shed_default_at: float = Field(
        default=0.95,
        gt=0,
        le=1,
        description="Share of `queue.max_queued` from which jobs of tier `default` are refused;"
        " `priority` is accepted until the queue is full.",
    )
    shed_wait_seconds: float | None = Field(
        default=None,
        gt=0,
        description="Maximum estimated wait in seconds; a job that would wait longer is refused."
        " Not set: no maximum.",
    )

    @model_validator(mode="after")
    def _flex_is_shed_first(self) -> Self:
        if self.shed_flex_at > self.shed_default_at:
            raise ValueError("queue.shed_flex_at must not exceed queue.shed_default_at")
        return self


class RetrySettings(SettingsGroup):
    """How often and when a failed attempt is repeated."""

    max_attempts: int = Field(
        default=4, ge=1, description="Failed attempts until a job goes to the dead-letter list."
    )
    base_seconds: float = Field(
        default=0.5,
        gt=0,
        description="Longest wait in seconds before the second attempt; it doubles each time.",
    )
    cap_seconds: float = Field(
        default=30.0, gt=0, description="Upper limit in seconds for the wait before an attempt."
    )

    max_deaths: int = Field(
        default=3,
        ge=1,
        description="Stops of workers after its first output that a job may be present at until it"
        " runs alone.",
    )
    max_kills: int = Field(
        default=2,
        ge=2,
        description="Failures of engines while a job runs alone until it fails as `poison-job`.",
    )
    max_lone_stops: int = Field(
        default=5,
        ge=3,
        description="Stops of workers, also of unknown cause, while a job runs alone until it fails"
        " as `poison-job`.",
    )

    @model_validator(mode="after")
    def _chance_needs_more(self) -> Self:
        if self.max_lone_stops < self.max_kills:
            raise ValueError("retry.max_lone_stops must not be less than retry.max_kills")
        return self


class RetentionSettings(SettingsGroup):
    """How long Redis keeps finished jobs."""

    seconds: int = Field(
        default=3_600, ge=1, description="Seconds that a finished job stays readable in Redis."
    )
    dead_seconds: int = Field(
        default=604_800,
        ge=1,
        description="Seconds that a job of the dead-letter list stays readable in Redis.",
    )
    tombstone_seconds: int = Field(
        default=86_400,
        ge=1,
        description="Seconds after that in which its id is answered with 410 instead of 404.",
    )
    idempotency_seconds: int = Field(
        default=86_400, ge=1, description="Seconds that an `Idempotency-Key` is remembered."
    )
    start: Literal["finish", "archive"] = Field(
        default="finish",
        description="When retention starts: `finish` (the job has ended) or `archive` (the ledger"
        " has copied it to SQL).",
    )
