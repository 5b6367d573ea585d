"""The body of a chat completion."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from wire.schemas.sampling import Body, Count, Sampling, misfit, only_functions


class TextPart(Body):
    """A piece of text."""

    type: Literal["text"]
    text: str


class RefusalPart(Body):
    """A refusal an assistant gave earlier."""

    type: Literal["refusal"]
    refusal: str


class MediaUrl(Body):
    """Where a picture or video is: an https or data URL."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(Body):
    """A picture, for models that see."""

    type: Literal["image_url"]
    image_url: MediaUrl


class VideoPart(Body):
    """A video, for models that see."""

    type: Literal["video_url"]
    video_url: MediaUrl


class AudioData(Body):
    """Sound as base64."""

    data: str
    format: Literal["wav", "mp3"]


class AudioPart(Body):
    """Sound, for models that hear."""

    type: Literal["input_audio"]
    input_audio: AudioData


def _part_kind(part: Any) -> str | None:
    kind = part.get("type") if isinstance(part, dict) else getattr(part, "type", None)
    return f"part:{kind}"


#: The tags cannot be mistaken for fields in an error's location.
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
            "an object with type text, image_url, input_audio, video_url or refusal is expected"
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
    """Which function an assistant called, and its arguments as JSON text."""

    name: Name
    arguments: str


class ToolCall(Body):
    """One call an assistant made."""

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
    """What the user said."""

    role: Literal["user"]
    content: Content
    name: Name | None = None


class AssistantMessage(Body):
    """What the model said; null fields are accepted since clients send answers back whole."""

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
    def _says_something(self) -> Self:
        if self.content is None and not self.tool_calls and self.refusal is None:
            raise misfit("content", "content, tool_calls or refusal is required")
        return self


class ToolMessage(Body):
    """What a called function returned."""

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
    """A tool; only functions."""

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

    refused: ClassVar[Mapping[str, str]] = {
        "audio": "answers are text",
        "function_call": "it is deprecated; send tool_choice",
        "functions": "it is deprecated; send tools",
        "moderation": "nothing here moderates",
        "prediction": "outputs cannot be predicted",
        "prompt_cache_options": "the cache of prompts is the engine's own",
        "prompt_cache_retention": "the cache of prompts is the engine's own",
        "web_search_options": "nothing here searches the web",
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
    def _chat_pairs(self) -> Self:
        if self.top_logprobs and not self.logprobs:
            raise misfit("top_logprobs", "this is only allowed with logprobs: true")
        if self.tool_choice not in (None, "none") and not self.tools:
            raise misfit("tool_choice", "this is only allowed with tools")
        return self

    @property
    def wanted_tokens(self) -> tuple[str, int] | None:
        """The output limit the client set: field and number."""
        if self.max_completion_tokens:
            return "max_completion_tokens", self.max_completion_tokens
        return super().wanted_tokens
