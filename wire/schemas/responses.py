"""The body of a response, OpenAI's newer way to ask for text."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from wire.schemas.chat import Effort, FunctionTool, Name, Verbosity
from wire.schemas.response_items import ItemId, ResponseInput
from wire.schemas.sampling import (
    Asking,
    Body,
    Count,
    JsonObjectFormat,
    NamedSchema,
    TextFormat,
    misfit,
    only_functions,
    unsupported,
)

LOGPROBS = "message.output_text.logprobs"


class ReasoningOptions(Body):
    """How much the model should think."""

    effort: Effort | None = None
    summary: Literal["auto"] | None = None
    context: Literal["auto"] | None = None


class ResponseJsonSchema(NamedSchema):
    """JSON that follows a schema, described in place."""

    type: Literal["json_schema"]


class Text(Body):
    """What form the text has."""

    format: (
        Annotated[TextFormat | JsonObjectFormat | ResponseJsonSchema, Field(discriminator="type")]
        | None
    ) = None
    verbosity: Verbosity | None = None


class ResponseTool(FunctionTool):
    """A function the model may call, described in place."""

    type: Literal["function"]


class ChosenTool(Body):
    """Call exactly this function."""

    type: Literal["function"]
    name: Name


class ResponseStreamOptions(Body):
    """How to stream; `include_obfuscation` is accepted and has no effect."""

    include_obfuscation: bool | None = None


class ResponseRequest(Asking):
    """`POST /v1/responses`."""

    refused: ClassVar[Mapping[str, str]] = {
        "access_programs": "there are no access programs",
        "background_options": "background jobs have none; send deadlines to /v1/jobs",
        "context_management": "conversations are not compacted",
        "conversation": "send previous_response_id, or the items themselves",
        "image": "answers are text",
        "moderation": "nothing here moderates",
        "prompt": "prompts are not kept here; send instructions and input",
        "prompt_cache_options": "the cache of prompts is the engine's own",
        "prompt_cache_retention": "the cache of prompts is the engine's own",
    }

    input: ResponseInput
    instructions: str | None = None
    previous_response_id: ItemId | None = None
    background: bool | None = None
    store: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    max_output_tokens: Count | None = None
    max_tool_calls: int | None = Field(default=None, ge=1)
    include: list[Literal["message.output_text.logprobs"]] | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    text: Text | None = None
    reasoning: ReasoningOptions | None = None
    tools: list[Annotated[ResponseTool, BeforeValidator(only_functions)]] | None = None
    tool_choice: Literal["none", "auto", "required"] | ChosenTool | None = None
    parallel_tool_calls: bool | None = None
    truncation: Literal["auto", "disabled"] | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _pairs(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("stream_options") and not value.get("stream"):
            raise misfit("stream_options", "this is only allowed with stream: true")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.truncation == "auto":
            raise unsupported("truncation", "a conversation that is too long is refused, never cut")
        if self.background and self.store is False:
            raise misfit("background", "this needs store, else nobody could read the answer")
        if self.tool_choice not in (None, "none", "auto") and not self.tools:
            raise misfit("tool_choice", "this is only allowed with tools")
        return self

    @property
    def wanted_tokens(self) -> tuple[str, int] | None:
        """The output limit the client set: field and number."""
        return ("max_output_tokens", self.max_output_tokens) if self.max_output_tokens else None
