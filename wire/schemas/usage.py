"""Responses of the usage routes; money is text, because JSON numbers are not exact."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from jobs.fairness import ServiceTier
from jobs.status import Status

Sha256 = Field(pattern=r"^[0-9a-f]{64}$")


class Answer(BaseModel):
    """Base of all responses: exactly the declared fields."""

    model_config = ConfigDict(extra="forbid")


class UsageTotalObject(Answer):
    """Total of one group; `day`, `model` and `key` are present when grouped by them."""

    day: str | None = Field(default=None, description="UTC day on which the jobs ended")
    model: str | None = None
    key: str | None = Field(default=None, description="id of the API key")
    jobs: int
    input_tokens: int = Field(description="including cached ones")
    cached_input_tokens: int
    output_tokens: int
    currency: str | None = Field(description="null: no price is set for these jobs yet")
    amount: str | None = Field(description="exact, before an invoice line rounds it")


class UsagePage(Answer):
    """A page of totals, sorted by day, model, key and currency."""

    object: Literal["list"]
    account: str
    group_by: list[str]
    since: str = Field(alias="from")
    until: str = Field(alias="to")
    data: list[UsageTotalObject]
    has_more: bool
    next: str | None = Field(description="value of `after` for the next page")


class TokensObject(Answer):
    """Tokens as counted by the engine."""

    input_tokens: int
    cached_input_tokens: int = Field(description="included in `input_tokens`")
    output_tokens: int
    vectors: int = Field(description="delivered vectors of an embedding request")


class Charged(Answer):
    """Charged tokens by price kind."""

    input: int = Field(description="input tokens that were not cached")
    cached_input: int
    output: int


class DeliveredChoice(Answer):
    """Output of one choice."""

    index: int
    output_tokens: int
    token_ids_sha256: str = Sha256
    text_sha256: str = Sha256
    vector_sha256: str | None = Field(
        description="SHA-256 of the vector's 32-bit floats; null: no input of an embedding request"
    )


class DeliveredObject(Answer):
    """The delivered output, as far as it is still stored."""

    kept_in: Literal["log", "archive"] | None
    events: int = Field(description="number of the last event in the job's log")
    choices: list[DeliveredChoice]


class PriceObject(Answer):
    """The price that was valid when the job finished."""

    version: str
    currency: str
    valid_from: float
    per_million: dict[Literal["input", "cached_input", "output"], str]


class CostObject(Answer):
    """The exact charge, as in the job object."""

    total: str
    currency: str
    input: str
    cached_input: str
    output: str
    multiplier: str
    price_version: str


class LedgerEntry(Answer):
    """The job's row in the ledger; it has the job's id."""

    id: str
    recorded_at: float
    month: str
    late: bool = Field(description="the month in which the job finished was already closed")


class InvoiceOf(Answer):
    """The invoice that bills the job."""

    number: str
    issued_at: float


class UsageProof(Answer):
    """Output of and charge for one job, for checking. Times are Unix seconds."""

    object: Literal["usage.proof"]
    job_id: str
    account: str
    key: str
    model: str
    service_tier: ServiceTier
    status: Status
    attempt: int
    weights: str | None = Field(
        description="digest of the weights of the last attempt; null: it never ran, or is not known"
    )
    created_at: float
    started_at: float | None
    finished_at: float
    run_seconds: float
    usage: TokensObject
    charged: Charged
    delivered: DeliveredObject
    price: PriceObject | None
    cost: CostObject | None
    ledger: LedgerEntry
    invoice: InvoiceOf | None
    notes: list[str] = Field(description="what is missing, and why")
