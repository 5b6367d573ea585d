"""Settings of the worker process and of the control process."""

from typing import Self

from pydantic import AliasChoices, Field, model_validator

from core.settings.base import SettingsGroup, health_host, health_port
from core.settings.engine import Modality, ModelName, Task


class WorkerSettings(SettingsGroup):
    """The worker process."""

    health_host: str = health_host("worker")
    health_port: int = health_port("worker", 8081)
    drain_seconds: float = Field(
        default=2.0,
        ge=0,
        description="Seconds after SIGTERM in which running jobs may end before they are handed"
        " over.",
    )
    grace_seconds: float = Field(
        default=25.0,
        gt=0,
        description="Maximum seconds from SIGTERM to exit; at least 3 more than"
        " `worker.drain_seconds`.",
    )
    redis_unreachable_seconds: float = Field(
        default=15.0,
        gt=0,
        validation_alias=AliasChoices("redis_unreachable_seconds", "deaf_seconds"),
        description="Seconds without an answer from Redis until the worker reports that it is not"
        " live.",
    )
    load_seconds: float = Field(
        default=2_400.0,
        gt=0,
        description="Seconds for which a worker that loads its model keeps the autoscaler from"
        " scaling to zero, counted from the first load of its host that did not succeed.",
    )
    hang_seconds: float = Field(
        default=60.0,
        gt=0,
        description="Seconds without an engine step, while jobs run, until the worker exits.",
    )
    visibility_seconds: int = Field(
        default=3_600,
        ge=60,
        description="Celery's visibility timeout in seconds; longer than `limits.run_seconds`.",
    )

    @model_validator(mode="after")
    def _grace_over_drain(self) -> Self:
        if self.grace_seconds < self.drain_seconds + 3:
            raise ValueError("worker.grace_seconds must exceed worker.drain_seconds by at least 3")
        return self


class DeclaredModel(SettingsGroup):
    """What is known of a model before a worker has registered it."""

    max_model_len: int = Field(ge=16)
    task: Task = "generate"
    modalities: tuple[Modality, ...] = Field(default=("text",), min_length=1)


class ControlSettings(SettingsGroup):
    """The control process: it sweeps queues, shows them to Prometheus and declares models."""

    health_host: str = health_host("control process")
    health_port: int = health_port("control process", 8083)
    models: dict[ModelName, DeclaredModel] = Field(
        default_factory=dict,
        description="Models that accept jobs while no worker serves them, as a JSON object:"
        ' `{"NAME": {"max_model_len": 16384}}`, with `"task": "embed"` for an embedding model,'
        ' and `"modalities": ["text", "image"]` for a model that takes images.'
        " What a worker reports of its model takes precedence.",
    )
