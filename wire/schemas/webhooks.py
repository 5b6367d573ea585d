"""Request bodies and responses of the webhook routes. Times are Unix seconds."""

from typing import Annotated, Literal

from pydantic import Field

from jobs.job import JobWebhook
from wire.schemas.sampling import Body
from wire.schemas.usage import Answer

EventType = Literal[
    "job.completed",
    "job.failed",
    "job.cancelled",
    "job.expired",
    "batch.completed",
    "batch.failed",
    "batch.cancelled",
    "batch.expired",
    "batch.waiting",
    "budget.threshold",
    "budget.refused",
]
JobEventType = Literal["job.completed", "job.failed", "job.cancelled", "job.expired"]

Url = Annotated[str, Field(min_length=1, max_length=2048)]
#: No control characters: PostgreSQL cannot store NUL, and the others are of no use.
Description = Annotated[str, Field(max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]
Events = Annotated[list[EventType], Field(max_length=16, description="empty means all events")]


class WebhookRequest(Body):
    """`POST /v1/webhooks`: a URL that receives the account's events."""

    url: Url
    events: Events = Field(default_factory=list)
    description: Description = ""


class WebhookChange(Body):
    """`PATCH /v1/webhooks/{id}`: omitted fields stay unchanged."""

    url: Url | None = None
    events: Events | None = None
    description: Description | None = None


class JobWebhookRequest(Body):
    """Webhook of one job; a plain URL receives every final event."""

    url: Url
    events: list[JobEventType] = Field(default_factory=list, max_length=4)

    def as_spec(self) -> JobWebhook:
        """Convert to the form that is stored with the job."""
        return JobWebhook(self.url, tuple(self.events))


class Webhook(Answer):
    """A webhook endpoint; `secret` is present only in the response that created it."""

    id: str
    object: Literal["webhook"]
    url: str
    events: list[str]
    description: str
    created_at: float
    failing_since: float | None = Field(description="first failure since the last success")
    disabled_at: float | None
    disabled_why: str | None
    previous_secret_until: float | None = Field(
        description="until then, deliveries also carry a signature made with the previous secret"
    )
    secret: str | None = None


class WebhookList(Answer):
    """All endpoints of an account, newest first."""

    object: Literal["list"]
    data: list[Webhook]
    has_more: Literal[False]


class WebhookSecretObject(Answer):
    """The secret that signs deliveries to the URLs of jobs."""

    object: Literal["webhook.secret"]
    secret: str
    created_at: float
    previous_secret_until: float | None


class DeliveryAttemptObject(Answer):
    """One delivery attempt."""

    at: float
    status: int | None = Field(description="null: no response was received")
    seconds: float
    failure: str | None


class DeliveryObject(Answer):
    """Delivery of one event to one receiver; `log` is present only when one delivery is read."""

    id: str
    object: Literal["webhook.delivery"]
    event: str = Field(description="value of the `webhook-id` header")
    type: str
    webhook: str | None = Field(description="null for the URL of a job or budget")
    url: str
    state: Literal["pending", "delivered", "failed"]
    attempts: int
    created_at: float
    next_attempt_at: float | None
    completed_at: float | None
    failure: str | None
    log: list[DeliveryAttemptObject] | None = None


class DeliveryPage(Answer):
    """A page of deliveries, newest first."""

    object: Literal["list"]
    data: list[DeliveryObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Accepted(Answer):
    """A delivery that is queued."""

    object: Literal["webhook.delivery"]
    id: str
    state: Literal["pending"]
