"""The body of a chat completion."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from wire.schemas.chat_messages import MediaPart, Message, Name
from wire.schemas.leniency import CacheControl, DeferLoading, MediaSize
from wire.schemas.sampling import (
    REFUSED_COMPLETIONS,
    Body,
    Count,
    Sampling,
    field_error,
    only_functions,
    unsupported,
)

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
Verbosity = Literal["low", "medium", "high"]


class FunctionTool(Body):
    """A function the model may call; `parameters` is a JSON schema."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    cache_control: CacheControl = None
    defer_loading: DeferLoading = None


class Tool(Body):
    """A tool; only functions are supported."""

    type: Literal["function"]
    function: FunctionTool
    cache_control: CacheControl = None
    defer_loading: DeferLoading = None


class NamedFunction(Body):
    """A function by name."""

    name: Name


class NamedTool(Body):
    """Call exactly this function."""

    type: Literal["function"]
    function: NamedFunction


def has_media(messages: list[Message]) -> bool:
    """Return whether a chat has images, videos or audio."""
    return any(
        isinstance(part, MediaPart)
        for message in messages
        if isinstance(message.content, list)
        for part in message.content
    )


class ChatRequest(Sampling):
    """`POST /v1/chat/completions`."""

    unsupported_fields: ClassVar[Mapping[str, str]] = {
        **REFUSED_COMPLETIONS,
        "audio": "only text output is available",
        "chat_template": "the operator of the server sets the model's chat template",
        "echo": "the answer is a new message; continue_final_message continues the last one",
        "return_prompt_text": "the answer does not repeat the prompt",
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
    functions: list[FunctionTool] | None = None
    function_call: Literal["none", "auto"] | NamedFunction | None = None
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
    media_io_kwargs: MediaSize = None
    mm_processor_kwargs: MediaSize = None

    @model_validator(mode="after")
    def _check_chat_combinations(self) -> Self:
        for name in ("media_io_kwargs", "mm_processor_kwargs"):
            if getattr(self, name) and has_media(self.messages):
                raise unsupported(name, "the model's own settings bound what media may cost")
        if self.top_logprobs and not self.logprobs:
            raise field_error("top_logprobs", "only allowed with logprobs: true")
        if self.tool_choice not in (None, "none") and not self.tools:
            raise field_error("tool_choice", "only allowed with tools")
        self._check_functions()
        return self

    def _check_functions(self) -> None:
        """Check OpenAI's old form of tools."""
        if self.function_call not in (None, "none") and not self.functions:
            raise field_error("function_call", "only allowed with functions")
        for old, new in (("functions", "tools"), ("function_call", "tool_choice")):
            if getattr(self, old) and getattr(self, new):
                raise field_error(old, f"cannot be combined with {new}, its new name")

    @property
    def output_limit(self) -> tuple[str, int] | None:
        """Name and value of the client's limit on output tokens; None without one."""
        if self.max_completion_tokens:
            return "max_completion_tokens", self.max_completion_tokens
        return super().output_limit
