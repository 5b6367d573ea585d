"""Settings of uploaded files and of batches."""

from datetime import timedelta

from pydantic import AliasChoices, Field, SecretStr

from core.settings.base import SettingsGroup, health_host, health_port
from core.settings.urls import FilesUrl


class FileSettings(SettingsGroup):
    """The file store: a folder, or a bucket of an S3-compatible store."""

    url: FilesUrl = Field(
        default=SecretStr("file:.penstock/files"),
        description="URL of the file store: `file:FOLDER`, `file:///FOLDER`, or"
        " `s3://BUCKET/PREFIX`, optionally with `?endpoint=URL&region=NAME&key=ID&secret=SECRET`"
        " (otherwise AWS's own variables are used).",
    )
    max_bytes: int = Field(
        default=200_000_000, ge=1_000, description="Maximum size of one file in bytes."
    )
    account_bytes: int = Field(
        default=10_000_000_000,
        ge=1_000,
        description="Maximum size of all files of one account in bytes.",
    )
    uploads: int = Field(
        default=16, ge=1, description="Maximum number of concurrent uploads per API process."
    )
    uploads_per_account: int = Field(
        default=4,
        ge=1,
        description="Maximum number of concurrent uploads of one account per API process.",
    )
    upload_bytes_per_second: int = Field(
        default=20_000,
        ge=1,
        description="Slowest average rate of an upload after its first minute; a slower one ends"
        " with 408. Time in which the file store is slow does not count.",
    )
    expire_days: int = Field(
        default=30, ge=1, description="Days until a file without an expiry of its own expires."
    )
    sweep_seconds: float = Field(
        default=60.0, gt=0, description="Seconds between two deletions of expired files."
    )
    orphan_seconds: float = Field(
        default=3_600.0,
        gt=0,
        description="Age in seconds at which an object that SQL does not know is deleted.",
    )

    @property
    def kept(self) -> timedelta:
        """How long a file without an expiry of its own is kept."""
        return timedelta(days=self.expire_days)


class BatchSettings(SettingsGroup):
    """Bounds of a batch, and how the feeder submits its lines."""

    max_lines: int = Field(
        default=50_000, ge=1, le=1_000_000, description="Maximum number of requests in one batch."
    )
    max_errors: int = Field(
        default=1_000,
        ge=1,
        le=10_000,
        description="Maximum number of invalid lines that a refused batch lists.",
    )
    max_open_per_account: int = Field(
        default=100, ge=1, description="Maximum number of batches of one account that are not over."
    )
    window: int = Field(
        default=1_000,
        ge=1,
        le=50_000,
        description="Maximum number of jobs of one batch in the queue; this is also how far one"
        " batch can scale up the workers.",
    )
    concurrency: int = Field(
        default=32,
        ge=1,
        validation_alias=AliasChoices("concurrency", "at_once"),
        description="Maximum number of batches that one feeder processes concurrently.",
    )
    concurrency_per_account: int = Field(
        default=4,
        ge=1,
        validation_alias=AliasChoices("concurrency_per_account", "at_once_per_account"),
        description="Maximum number of batches of one account that all feeders together process"
        " concurrently; the others wait.",
    )
    poll_seconds: float = Field(
        default=0.5,
        gt=0,
        validation_alias=AliasChoices("poll_seconds", "look_seconds"),
        description="Seconds between two looks for new batches and for ended jobs.",
    )
    flush_seconds: float = Field(
        default=2.0, gt=0, description="Seconds between two writes of results."
    )
    lease_seconds: float = Field(
        default=6.0,
        ge=1,
        description="Seconds until another feeder takes over a batch whose feeder died.",
    )
    cancel_seconds: float = Field(
        default=600.0,
        gt=0,
        description="Seconds after a cancel until a batch ends without its still running jobs.",
    )
    health_host: str = health_host("feeder")
    health_port: int = health_port("feeder", 8084)
