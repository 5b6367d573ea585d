"""The body of a job submission."""

import math
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from wire.schemas.chat import ChatRequest
from wire.schemas.completions import CompletionRequest
from wire.schemas.embeddings import EmbeddingRequest
from wire.schemas.responses import ResponseRequest
from wire.schemas.sampling import Body, Metadata, ModelRequest, Tier
from wire.schemas.webhooks import JobWebhookRequest

YEAR_9999 = 253_402_300_799
INSTANT = "expected an RFC 3339 time with a time zone, or Unix seconds"


def _instant(value: Any) -> Any:
    """Convert RFC 3339 or Unix seconds into Unix milliseconds."""
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            raise PydanticCustomError("instant", INSTANT) from None
        if moment.tzinfo is None:
            raise PydanticCustomError("instant", INSTANT)
        value = moment.timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float | None):
        raise PydanticCustomError("instant", INSTANT)
    if value is None:
        return None
    if not math.isfinite(value) or not 0 <= value <= YEAR_9999:
        raise PydanticCustomError("instant", INSTANT)
    return round(value * 1000)


def _webhook(value: Any) -> Any:
    """Read a plain URL as a webhook object with only a URL."""
    return {"url": value} if isinstance(value, str) else value


#: Unix milliseconds once validated.
Instant = Annotated[
    int | None,
    BeforeValidator(_instant),
    WithJsonSchema(
        {"anyOf": [{"type": "string", "format": "date-time"}, {"type": "number"}, {"type": "null"}]}
    ),
]

AsUrl = Annotated[str, Field(max_length=2048)]
JobWebhook = Annotated[
    JobWebhookRequest | None,
    BeforeValidator(_webhook, json_schema_input_type=AsUrl | JobWebhookRequest | None),
]

Url = Literal["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings"]
BODIES: dict[str, type[ModelRequest]] = {
    "/v1/chat/completions": ChatRequest,
    "/v1/completions": CompletionRequest,
    "/v1/responses": ResponseRequest,
    "/v1/embeddings": EmbeddingRequest,
}


class JobRequest(Body):
    """`POST /v1/jobs`: the URL and body of an OpenAI request, with options for the job."""

    url: Url
    body: dict[str, Any] = Field(
        description="body of the OpenAI request; `stream` has no effect here"
    )
    service_tier: Tier | None = None
    deadline: Instant = Field(
        default=None, description="the job expires unless it is finished by then"
    )
    start_by: Instant = Field(
        default=None, description="the job expires unless it has started by then"
    )
    webhook: JobWebhook = Field(default=None, description="URL that is called when the job ends")
    metadata: Metadata | None = None
    on_disconnect: Literal["continue", "cancel"] = "continue"
