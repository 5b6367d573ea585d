"""The bodies of webhook routes, and what they answer. Times are Unix seconds."""

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
    "budget.threshold",
]
JobEventType = Literal["job.completed", "job.failed", "job.cancelled", "job.expired"]

Url = Annotated[str, Field(min_length=1, max_length=2048)]
#: PostgreSQL keeps no NUL, and nobody needs the other control characters.
Description = Annotated[str, Field(max_length=256, pattern=r"^[^\x00-\x1f\x7f]*$")]
Events = Annotated[list[EventType], Field(max_length=16, description="empty: all of them")]


class WebhookRequest(Body):
    """`POST /v1/webhooks`: a URL that hears of the account's events."""

    url: Url
    events: Events = Field(default_factory=list)
    description: Description = ""


class WebhookChange(Body):
    """`PATCH /v1/webhooks/{id}`: what is left out stays as it is."""

    url: Url | None = None
    events: Events | None = None
    description: Description | None = None


class JobWebhookRequest(Body):
    """A job's own webhook; a plain URL hears of any end."""

    url: Url
    events: list[JobEventType] = Field(default_factory=list, max_length=4)

    def as_spec(self) -> JobWebhook:
        """Return what the job keeps of it."""
        return JobWebhook(self.url, tuple(self.events))


class Webhook(Answer):
    """An endpoint; `secret` is there only in the answer that made it."""

    id: str
    object: Literal["webhook"]
    url: str
    events: list[str]
    description: str
    created_at: float
    failing_since: float | None = Field(description="the first failure since the last success")
    disabled_at: float | None
    disabled_why: str | None
    previous_secret_until: float | None = Field(description="until then it signs, too")
    secret: str | None = None


class WebhookList(Answer):
    """All endpoints of an account, the newest first."""

    object: Literal["list"]
    data: list[Webhook]
    has_more: Literal[False]


class WebhookSecretObject(Answer):
    """What deliveries to the URLs of jobs are signed with."""

    object: Literal["webhook.secret"]
    secret: str
    created_at: float
    previous_secret_until: float | None


class DeliveryAttemptObject(Answer):
    """One try."""

    at: float
    status: int | None = Field(description="null: there was no answer")
    seconds: float
    failure: str | None


class DeliveryObject(Answer):
    """One event on its way to one receiver; `log` only where one is read."""

    id: str
    object: Literal["webhook.delivery"]
    event: str = Field(description="the `webhook-id`")
    type: str
    webhook: str | None = Field(description="null: a job's or budget's own URL")
    url: str
    state: Literal["pending", "delivered", "failed"]
    attempts: int
    created_at: float
    next_attempt_at: float | None
    completed_at: float | None
    failure: str | None
    log: list[DeliveryAttemptObject] | None = None


class DeliveryPage(Answer):
    """A page of deliveries, the newest first."""

    object: Literal["list"]
    data: list[DeliveryObject]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Accepted(Answer):
    """A delivery that is on its way."""

    object: Literal["webhook.delivery"]
    id: str
    state: Literal["pending"]
