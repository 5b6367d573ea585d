"""An engine's latency model: how long a step takes, what fits at once, how long a start takes.

A step advances every running sequence by one token. It takes the prefill of those that join,
a base (the weights are read once), a part per sequence, and a part per token of context that
the sequences hold (their KV cache is read). Invariant: a step always takes time.
"""

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from core.settings.engine import EngineSettings
from planning.errors import ProfileInvalid

#: From submit to claim, and from a freed slot to the next claim, of a worker that is up.
CLAIM_SECONDS = 0.004


class EngineProfile(BaseModel):
    """The latency model of one worker. `kv_tokens` 0: the KV cache sets no limit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(default="engine", max_length=200)
    prefill_tokens_per_second: float = Field(gt=0)
    step_base_seconds: float = Field(ge=0)
    step_per_sequence_seconds: float = Field(default=0.0, ge=0)
    step_per_context_token_seconds: float = Field(default=0.0, ge=0)
    slots: int = Field(ge=1, le=4096)
    kv_tokens: int = Field(default=0, ge=0)
    start_seconds: float = Field(default=0.0, ge=0)
    drain_seconds: float = Field(default=2.0, ge=0)
    claim_seconds: float = Field(default=CLAIM_SECONDS, ge=0)
    gpus: int = Field(default=1, ge=1)
    fit_error: float | None = Field(default=None, ge=0, description="from calibrate: a share")

    @model_validator(mode="after")
    def _steps_take_time(self) -> Self:
        if self.step_base_seconds + self.step_per_sequence_seconds <= 0:
            raise ValueError("step_base_seconds and step_per_sequence_seconds must not both be 0")
        return self


def simulated_profile(settings: EngineSettings) -> EngineProfile:
    """Return the model that the `simulated` engine follows under these settings."""
    model = settings.simulated
    return EngineProfile(
        name="simulated",
        prefill_tokens_per_second=model.prefill_tokens_per_second,
        step_base_seconds=model.step_base_seconds,
        step_per_sequence_seconds=model.step_per_sequence_seconds,
        slots=settings.slots,
        start_seconds=model.start_seconds,
    )


def read_profile(path: Path) -> EngineProfile:
    """Read a file that `penstock calibrate` wrote, or one written by hand.

    Raises:
        ProfileInvalid: naming each wrong field.
    """
    try:
        return EngineProfile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ProfileInvalid(f"{path}: {error.strerror}") from error
    except ValidationError as error:
        wrong = (
            f"{'.'.join(map(str, item['loc'])) or 'the file'}: {item['msg']}"
            for item in error.errors(include_url=False, include_input=False)
        )
        raise ProfileInvalid(f"{path}: {'; '.join(wrong)}") from error
