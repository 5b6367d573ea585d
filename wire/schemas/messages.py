"""The request body of Anthropic's Messages API."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag

from wire.schemas.leniency import CacheControl, ClientsOwn, DeferLoading, NoEffect
from wire.schemas.sampling import Body, Count, ModelName, OpenAiBody, Stop, unsupported

Name = Annotated[str, Field(min_length=1, max_length=256)]
Ignored = Annotated[
    Any,
    NoEffect("it changes no answer here"),
    Field(description="Accepted, without effect."),
]


class MessageBlock(Body):
    """Fields of every block of content."""

    cache_control: CacheControl = None


class TextBlock(MessageBlock):
    """Text."""

    type: Literal["text"]
    text: str
    citations: ClientsOwn = None


class Base64Source(Body):
    """An image as base64."""

    type: Literal["base64"]
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: str


class UrlSource(Body):
    """An image by its URL: https, where the server fetches URLs, or data."""

    type: Literal["url"]
    url: str


class ImageBlock(MessageBlock):
    """An image, for models with image input."""

    type: Literal["image"]
    source: Annotated[Base64Source | UrlSource, Field(discriminator="type")]


class ToolUseBlock(MessageBlock):
    """A tool call of the model in an earlier turn."""

    type: Literal["tool_use"]
    id: Name
    name: Name
    input: dict[str, Any]
    caller: ClientsOwn = None


class ThinkingBlock(Body):
    """The model's reasoning in an earlier turn."""

    type: Literal["thinking"]
    thinking: str
    signature: ClientsOwn = None


class RedactedThinkingBlock(Body):
    """Reasoning that cannot be read; it is dropped."""

    type: Literal["redacted_thinking"]
    data: ClientsOwn = None


ResultBlock = Annotated[TextBlock | ImageBlock, Field(discriminator="type")]


def _content_kind(content: Any) -> str:
    return "content:blocks" if isinstance(content, list) else "content:text"


class ToolResultBlock(MessageBlock):
    """The result of a tool call."""

    type: Literal["tool_result"]
    tool_use_id: Name
    content: (
        Annotated[
            Annotated[str, Tag("content:text")]
            | Annotated[list[ResultBlock], Tag("content:blocks")],
            Discriminator(_content_kind),
        ]
        | None
    ) = None
    is_error: bool | None = None


Block = Annotated[
    TextBlock | ImageBlock | ToolUseBlock | ToolResultBlock | ThinkingBlock | RedactedThinkingBlock,
    Field(discriminator="type"),
]


class InputTurn(Body):
    """One turn of the conversation."""

    role: Literal["user", "assistant", "system"]
    content: Annotated[
        Annotated[str, Tag("content:text")] | Annotated[list[Block], Tag("content:blocks")],
        Discriminator(_content_kind),
    ]


def _only_custom(tool: Any) -> Any:
    """Reject the tools that Anthropic defines or runs itself."""
    kind = tool.get("type") if isinstance(tool, dict) else None
    if isinstance(kind, str) and kind != "custom":
        raise unsupported("type", "only tools with an input_schema are available")
    return tool


class CustomTool(Body):
    """A tool the model may call; `input_schema` is a JSON schema."""

    type: Literal["custom"] | None = None
    name: Name
    description: str | None = None
    input_schema: dict[str, Any]
    strict: bool | None = None
    cache_control: CacheControl = None
    defer_loading: DeferLoading = None
    eager_input_streaming: Ignored = None
    input_examples: Ignored = None
    allowed_callers: Ignored = None


class ToolChoice(Body):
    """Whether the model must call a tool: `any` is one of them, `tool` the named one."""

    type: Literal["auto", "any", "tool", "none"]
    name: Name | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(Body):
    """Whether to show the model's reasoning; the budget has no effect."""

    type: Literal["enabled", "adaptive", "disabled"]
    budget_tokens: Ignored = None
    display: Ignored = None


class MessageFormat(Body):
    """JSON that follows a schema."""

    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")


class OutputConfig(Body):
    """Effort of the reasoning, and the format of the output."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: MessageFormat | None = None


class RequestMetadata(Body):
    """Who asks, for the operator's eyes."""

    user_id: str | None = Field(default=None, max_length=1024)


class MessagesInput(OpenAiBody):
    """What the prompt of a message is made of."""

    unsupported_fields: ClassVar[Mapping[str, str]] = {
        "container": "code is not executed",
        "context_management": "conversations are not edited; send what the model is to read",
        "fallbacks": "a request names one model",
        "mcp_servers": "MCP servers are not called; use tools",
    }

    model: ModelName
    messages: list[InputTurn] = Field(min_length=1)
    system: str | list[TextBlock] | None = None
    tools: list[Annotated[CustomTool, BeforeValidator(_only_custom)]] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: MessageFormat | None = None
    cache_control: CacheControl = None


class CountTokensRequest(MessagesInput):
    """`POST /v1/messages/count_tokens`."""


class MessagesRequest(MessagesInput):
    """`POST /v1/messages`."""

    max_tokens: Count
    stop_sequences: list[Stop] | None = None
    stream: bool | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    top_k: int | None = Field(default=None, ge=0)
    metadata: RequestMetadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    inference_geo: Ignored = None
