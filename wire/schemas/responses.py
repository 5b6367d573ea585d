"""The request body of OpenAI's Responses API."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from wire.schemas.chat import Effort, FunctionTool, Verbosity
from wire.schemas.chat_messages import Name
from wire.schemas.leniency import MediaSize
from wire.schemas.response_items import (
    FunctionCallOutput,
    InputImage,
    InputMessage,
    ItemId,
    ResponseInput,
)
from wire.schemas.sampling import (
    REFUSED_HERE,
    Body,
    Count,
    JsonObjectFormat,
    NamedSchema,
    TextFormat,
    TextRequest,
    field_error,
    only_functions,
    unsupported,
)

LOGPROBS = "message.output_text.logprobs"
#: What OpenAI's clients may ask to include; all but the first concern what no response has here.
Included = Literal[
    "message.output_text.logprobs",
    "reasoning.encrypted_content",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
]
Summary = Literal["auto", "concise", "detailed"]


class ReasoningOptions(Body):
    """Reasoning effort."""

    effort: Effort | None = None
    summary: Summary | None = None
    generate_summary: Summary | None = None
    context: Literal["auto"] | None = None


class ResponseJsonSchema(NamedSchema):
    """JSON that follows a schema; the schema's fields are inline."""

    type: Literal["json_schema"]


class Text(Body):
    """Format of the output text."""

    format: (
        Annotated[TextFormat | JsonObjectFormat | ResponseJsonSchema, Field(discriminator="type")]
        | None
    ) = None
    verbosity: Verbosity | None = None


class ResponseTool(FunctionTool):
    """A function the model may call; its fields are inline."""

    type: Literal["function"]


class ChosenTool(Body):
    """Call exactly this function."""

    type: Literal["function"]
    name: Name


class ResponseStreamOptions(Body):
    """How to stream; `include_obfuscation` is accepted and has no effect."""

    include_obfuscation: bool | None = None


def _has_images(items: Any) -> bool:
    for item in items if isinstance(items, list) else ():
        content = item.content if isinstance(item, InputMessage) else None
        content = item.output if isinstance(item, FunctionCallOutput) else content
        if isinstance(content, list) and any(isinstance(part, InputImage) for part in content):
            return True
    return False


class ResponseRequest(TextRequest):
    """`POST /v1/responses`."""

    unsupported_fields: ClassVar[Mapping[str, str]] = {
        **REFUSED_HERE,
        "enable_response_messages": "the answer does not repeat the prompt; read input_items",
        "previous_input_messages": "use previous_response_id, or send the items",
        "access_programs": "access programs are not available",
        "background_options": "background responses have no options; set deadlines at /v1/jobs",
        "context_management": "conversations are not compacted",
        "conversation": "use previous_response_id, or send the items",
        "image": "only text output is available",
        "moderation": "moderation is not available",
        "prompt": "prompts are not stored; use instructions and input",
        "prompt_cache_options": "the engine manages its prompt cache itself",
        "prompt_cache_retention": "the engine manages its prompt cache itself",
    }

    input: ResponseInput
    instructions: str | None = None
    previous_response_id: ItemId | None = None
    background: bool | None = None
    store: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    max_output_tokens: Count | None = None
    max_tool_calls: int | None = Field(default=None, ge=1)
    include: list[Included] | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    text: Text | None = None
    reasoning: ReasoningOptions | None = None
    tools: list[Annotated[ResponseTool, BeforeValidator(only_functions)]] | None = None
    tool_choice: Literal["none", "auto", "required"] | ChosenTool | None = None
    parallel_tool_calls: bool | None = None
    truncation: Literal["auto", "disabled"] | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    include_reasoning: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    media_io_kwargs: MediaSize = None
    mm_processor_kwargs: MediaSize = None

    @model_validator(mode="before")
    @classmethod
    def _check_combinations(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("stream_options") and not value.get("stream"):
            raise field_error("stream_options", "only allowed with stream: true")
        return value

    @model_validator(mode="after")
    def _check_values(self) -> Self:
        for name in ("media_io_kwargs", "mm_processor_kwargs"):
            if getattr(self, name) and _has_images(self.input):
                raise unsupported(name, "the model's own settings bound what media may cost")
        structured = self.structured_outputs is not None
        if structured and self.text and self.text.format and self.text.format.type != "text":
            raise field_error("structured_outputs", "cannot be combined with text.format")
        if self.background and self.store is False:
            raise field_error(
                "background", "requires store; otherwise the response could not be read"
            )
        if self.tool_choice not in (None, "none", "auto") and not self.tools:
            raise field_error("tool_choice", "only allowed with tools")
        return self

    @property
    def output_limit(self) -> tuple[str, int] | None:
        """Name and value of the client's limit on output tokens; None without one."""
        return ("max_output_tokens", self.max_output_tokens) if self.max_output_tokens else None
