"""The messages of a chat and their parts."""

from typing import Annotated, Any, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from wire.schemas.leniency import CacheControl, ClientsOwn, MediaCache, ReasoningCopy
from wire.schemas.sampling import Body, field_error


class MessagePart(Body):
    """Fields of every part that clients of other servers send."""

    cache_control: CacheControl = None
    id: ClientsOwn = None
    provider_specific_fields: ClientsOwn = None


class TextPart(MessagePart):
    """A text part."""

    type: Literal["text"]
    text: str
    annotations: ClientsOwn = None
    citations: ClientsOwn = None


class RefusalPart(MessagePart):
    """A refusal in an earlier assistant message."""

    type: Literal["refusal"]
    refusal: str


class MediaUrl(Body):
    """URL of an image, a video or audio: https or data."""

    url: str
    detail: Literal["auto", "low", "high"] | None = None


class MediaPart(MessagePart):
    """Fields of every media part."""

    uuid: MediaCache = None


class ImagePart(MediaPart):
    """An image, for models with image input."""

    type: Literal["image_url"]
    image_url: MediaUrl


class VideoPart(MediaPart):
    """A video, for models with video input."""

    type: Literal["video_url"]
    video_url: MediaUrl


class AudioUrlPart(MediaPart):
    """Audio by its URL, for models with audio input."""

    type: Literal["audio_url"]
    audio_url: MediaUrl


class AudioData(Body):
    """Audio as base64."""

    data: str
    format: Literal["wav", "mp3"]


class AudioPart(MediaPart):
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
    | Annotated[AudioUrlPart, Tag("part:audio_url")]
    | Annotated[RefusalPart, Tag("part:refusal")],
    Discriminator(
        _part_kind,
        custom_error_type="part",
        custom_error_message=(
            "expected an object with type text, image_url, input_audio, video_url, audio_url or"
            " refusal"
        ),
    ),
]


def _content_kind(content: Any) -> str:
    return "content:parts" if isinstance(content, list) else "content:text"


Content = Annotated[
    Annotated[str, Tag("content:text")] | Annotated[list[Part], Tag("content:parts")],
    Discriminator(_content_kind),
]
Name = Annotated[str, Field(max_length=256)]


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
    cache_control: CacheControl = None
    extra_content: ClientsOwn = None
    provider_specific_fields: ClientsOwn = None


class ChatMessage(Body):
    """Fields of every message that clients of other servers send."""

    id: ClientsOwn = None
    cache_control: CacheControl = None
    metadata: ClientsOwn = None
    provider_specific_fields: ClientsOwn = None


class SystemMessage(ChatMessage):
    """Instructions."""

    role: Literal["system", "developer"]
    content: Content
    name: Name | None = None


class UserMessage(ChatMessage):
    """A message of the user."""

    role: Literal["user"]
    content: Content
    name: Name | None = None


class AssistantMessage(ChatMessage):
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
    function_call: CalledFunction | None = None
    images: list[Any] | None = Field(default=None, max_length=0)
    reasoning_details: ReasoningCopy = None
    thinking_blocks: ReasoningCopy = None

    @model_validator(mode="after")
    def _check_not_empty(self) -> Self:
        if self.function_call is not None and self.tool_calls:
            raise field_error("function_call", "cannot be combined with tool_calls, its new name")
        called = self.tool_calls or self.function_call
        if self.content is None and not called and self.refusal is None:
            raise field_error("content", "content, tool_calls or refusal is required")
        return self


class ToolMessage(ChatMessage):
    """The result of a called function."""

    role: Literal["tool"]
    content: Content
    tool_call_id: str
    name: Name | None = None


class FunctionMessage(ChatMessage):
    """The result of a called function, as clients of OpenAI's old `functions` send it."""

    role: Literal["function"]
    name: Name
    content: Content | None = None


Message = Annotated[
    SystemMessage | UserMessage | AssistantMessage | ToolMessage | FunctionMessage,
    Field(discriminator="role"),
]
