"""The bodies of vLLM's routes `/tokenize` and `/detokenize`."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, model_validator

from wire.schemas.chat import Tool, has_media
from wire.schemas.chat_messages import Message
from wire.schemas.leniency import MediaSize
from wire.schemas.sampling import (
    ModelName,
    OpenAiBody,
    TokenId,
    field_error,
    only_functions,
    unsupported,
)

#: Fields that only a chat has.
OF_CHATS = (
    *("add_generation_prompt", "continue_final_message", "chat_template_kwargs", "tools"),
    *("media_io_kwargs", "mm_processor_kwargs"),
)


class TokenizeRequest(OpenAiBody):
    """`POST /tokenize`: a text in `prompt`, or a chat in `messages`.

    Without `model`, the only model that the caller may use.
    """

    unsupported_fields: ClassVar[Mapping[str, str]] = {
        "chat_template": "the operator of the server sets the model's chat template",
    }

    model: ModelName | None = None
    prompt: str | None = None
    messages: list[Message] | None = Field(default=None, min_length=1)
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    tools: list[Annotated[Tool, BeforeValidator(only_functions)]] | None = None
    media_io_kwargs: MediaSize = None
    mm_processor_kwargs: MediaSize = None

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise field_error("prompt", "expected either prompt or messages")
        for name in OF_CHATS:
            if getattr(self, name) is not None and self.messages is None:
                raise field_error(name, "only allowed with messages")
        for name in ("media_io_kwargs", "mm_processor_kwargs"):
            if getattr(self, name) and has_media(self.messages or []):
                raise unsupported(name, "the model's own settings bound what media may cost")
        return self


class DetokenizeRequest(OpenAiBody):
    """`POST /detokenize`. Without `model`, the only model that the caller may use."""

    model: ModelName | None = None
    tokens: list[TokenId]
