"""What the usage routes answer; money is text, since JSON's numbers are not exact."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from jobs.fairness import ServiceTier
from jobs.status import Status

Sha256 = Field(pattern=r"^[0-9a-f]{64}$")


class Answer(BaseModel):
    """A part of an answer; it holds exactly these fields."""

    model_config = ConfigDict(extra="forbid")


class UsageTotalObject(Answer):
    """One group's total; `day`, `model` and `key` are there when they were asked for."""

    day: str | None = Field(default=None, description="a UTC day of the jobs' ends")
    model: str | None = None
    key: str | None = Field(default=None, description="the id of the API key")
    jobs: int
    input_tokens: int = Field(description="all of them, cached ones too")
    cached_input_tokens: int
    output_tokens: int
    currency: str | None = Field(description="null: these jobs have no price yet")
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
    next: str | None = Field(description="goes into `after` of the next request")


class TokensObject(Answer):
    """Tokens the engine counted."""

    input_tokens: int
    cached_input_tokens: int = Field(description="a part of `input_tokens`")
    output_tokens: int


class Charged(Answer):
    """Tokens that are charged, by the price they have."""

    input: int = Field(description="input tokens that were not in the cache")
    cached_input: int
    output: int


class DeliveredChoice(Answer):
    """What one choice delivered."""

    index: int
    output_tokens: int
    token_ids_sha256: str = Sha256
    text_sha256: str = Sha256


class DeliveredObject(Answer):
    """What was delivered, as far as it is still kept."""

    kept_in: Literal["log", "archive"] | None
    events: int = Field(description="number of the last event of the job's log")
    choices: list[DeliveredChoice]


class PriceObject(Answer):
    """The price that was valid when the job finished."""

    version: str
    currency: str
    valid_from: float
    per_million: dict[Literal["input", "cached_input", "output"], str]


class CostObject(Answer):
    """What is charged, exactly, as in the job object."""

    total: str
    currency: str
    input: str
    cached_input: str
    output: str
    multiplier: str
    price_version: str


class LedgerEntry(Answer):
    """The row of the ledger; its id is the job's, since there is one a job."""

    id: str
    recorded_at: float
    month: str
    late: bool = Field(description="the month the job finished in was closed already")


class InvoiceOf(Answer):
    """The invoice that bills the job."""

    number: str
    issued_at: float


class UsageProof(Answer):
    """What one job delivered and what is charged for it. Times are Unix seconds."""

    object: Literal["usage.proof"]
    job_id: str
    account: str
    key: str
    model: str
    service_tier: ServiceTier
    status: Status
    attempt: int
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
    notes: list[str] = Field(description="what is not there, and why")
