"""Settings of requests to a model's tokeniser, which a worker answers without a job."""

from pydantic import Field

from core.settings.base import SettingsGroup


class TokeniserSettings(SettingsGroup):
    """Limits of `/tokenize`, `/detokenize` and `/v1/messages/count_tokens`."""

    wait_seconds: float = Field(
        default=20.0,
        gt=0,
        description="Maximum seconds that a client waits for the answer of a worker's tokeniser.",
    )
    max_waiting: int = Field(
        default=64,
        ge=1,
        description="Maximum number of requests that wait for the tokeniser of one model.",
    )
    open_per_account: int = Field(
        default=4,
        ge=1,
        description="Maximum number of requests to tokenisers that an account has open in one API"
        " process.",
    )
    concurrency: int = Field(
        default=32,
        ge=0,
        le=256,
        description="Number of requests to its tokeniser that a worker has at the same time; they"
        " take turns by account. 0: it answers none.",
    )
