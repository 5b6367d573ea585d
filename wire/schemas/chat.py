"""The body of a chat completion."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from wire.schemas.sampling import Body, Count, Sampling, field_error, only_functions


class TextPart(Body):
    """A text part."""

    type: Literal["text"]
    text: str


class RefusalPart(Body):
    """A refusal in an earlier assistant message."""

    type: Literal["refusal"]
    refusal: str


class MediaUrl(Body):
    """URL of an image or video: https or data."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(Body):
    """An image, for models with image input."""

    type: Literal["image_url"]
    image_url: MediaUrl


class VideoPart(Body):
    """A video, for models with video input."""

    type: Literal["video_url"]
    video_url: MediaUrl


class AudioData(Body):
    """Audio as base64."""

    data: str
    format: Literal["wav", "mp3"]


class AudioPart(Body):
    """Audio, for models with audio input."""

    type: Literal["input_audio"]
    input_audio: AudioData


def _part_kind(part: Any) -> str | None:
    kind = part.get("type") if isinstance(part, dict) else getattr(part, "type", None)
    return f"part:{kind}"


#: The tags contain a colon, so that they differ from field names in an error's location.
Part = Annotated[
    Annotated[TextPart, Tag("part:text")]
    | Annotated[ImagePart, Tag("part:image_url")]
    | Annotated[AudioPart, Tag("part:input_audio")]
    | Annotated[VideoPart, Tag("part:video_url")]
    | Annotated[RefusalPart, Tag("part:refusal")],
    Discriminator(
        _part_kind,
        custom_error_type="part",
        custom_error_message=(
            "expected an object with type text, image_url, input_audio, video_url or refusal"
        ),
    ),
]


def _content_kind(content: Any) -> str:
    return "content:parts" if isinstance(content, list) else "content:text"


Content = Annotated[
    Annotated[str, Tag("content:text")]
    | Annotated[list[Part], Field(min_length=1), Tag("content:parts")],
    Discriminator(_content_kind),
]
Name = Annotated[str, Field(max_length=256)]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Verbosity = Literal["low", "medium", "high"]


class CalledFunction(Body):
    """Name of a called function and its arguments as JSON text."""

    name: Name
    arguments: str


class ToolCall(Body):
    """One tool call of an assistant."""

    id: str
    type: Literal["function"] = "function"
    function: CalledFunction
    index: int | None = None


class SystemMessage(Body):
    """Instructions."""

    role: Literal["system", "developer"]
    content: Content
    name: Name | None = None


class UserMessage(Body):
    """A message of the user."""

    role: Literal["user"]
    content: Content
    name: Name | None = None


class AssistantMessage(Body):
    """A message of the model; null is accepted, because clients send whole responses back."""

    role: Literal["assistant"]
    content: Content | None = None
    name: Name | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None
    reasoning: str | None = None
    reasoning_content: str | None = None
    annotations: list[Any] | None = None
    audio: None = None
    function_call: None = None

    @model_validator(mode="after")
    def _check_not_empty(self) -> Self:
        if self.content is None and not self.tool_calls and self.refusal is None:
            raise field_error("content", "content, tool_calls or refusal is required")
        return self


class ToolMessage(Body):
    """The result of a called function."""

    role: Literal["tool"]
    content: Content
    tool_call_id: str
    name: Name | None = None


Message = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage, Field(discriminator="role")
]


class FunctionTool(Body):
    """A function the model may call; `parameters` is a JSON schema."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(Body):
    """A tool; only functions are supported."""

    type: Literal["function"]
    function: FunctionTool


class NamedFunction(Body):
    """A function by name."""

    name: Name


class NamedTool(Body):
    """Call exactly this function."""

    type: Literal["function"]
    function: NamedFunction


class ChatRequest(Sampling):
    """`POST /v1/chat/completions`."""

    unsupported_fields: ClassVar[Mapping[str, str]] = {
        "audio": "only text output is available",
        "function_call": "deprecated by OpenAI; use tool_choice",
        "functions": "deprecated by OpenAI; use tools",
        "moderation": "moderation is not available",
        "prediction": "predicted outputs are not available",
        "prompt_cache_options": "the engine manages its prompt cache itself",
        "prompt_cache_retention": "the engine manages its prompt cache itself",
        "web_search_options": "web search is not available",
    }

    messages: list[Message] = Field(min_length=1)
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    tools: list[Annotated[Tool, BeforeValidator(only_functions)]] | None = None
    tool_choice: Literal["none", "auto", "required"] | NamedTool | None = None
    parallel_tool_calls: bool | None = None
    reasoning_effort: Effort | None = None
    modalities: list[Literal["text"]] | None = None
    store: bool | None = None
    prompt_cache_key: str | None = None
    safety_identifier: str | None = None
    verbosity: Verbosity | None = None

    include_reasoning: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    documents: list[dict[str, str]] | None = None

    @model_validator(mode="after")
    def _check_chat_combinations(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise field_error("top_logprobs", "only allowed with logprobs: true")
        if self.tool_choice not in (None, "none") and not self.tools:
            raise field_error("tool_choice", "only allowed with tools")
        return self

    @property
    def output_limit(self) -> tuple[str, int] | None:
        """Name and value of the client's limit on output tokens; None without one."""
        if self.max_completion_tokens:
            return "max_completion_tokens", self.max_completion_tokens
        return super().output_limit
