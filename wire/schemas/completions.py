"""The body of a text completion."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from wire.schemas.sampling import (
    MAX_TOKENS,
    REFUSED_COMPLETIONS,
    Sampling,
    field_error,
    unsupported,
)

EXPECTED = (
    "expected text, a list of token ids, a list of texts or a list of lists of token ids,"
    " none of them empty"
)


def _prompts(value: Any) -> Any:
    """Accept one or several prompts, all texts or all lists of token ids."""
    if not _is_text(value) and not _is_ids(value):
        several = isinstance(value, list) and bool(value)
        if not several or not (all(map(_is_text, value)) or all(map(_is_ids, value))):
            raise PydanticCustomError("prompt", EXPECTED)
    return value


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_ids(value: Any) -> bool:
    is_list = isinstance(value, list) and bool(value)
    return is_list and all(type(item) is int and 0 <= item < 2**31 for item in value)


TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
IDS: dict[str, Any] = {
    "type": "array",
    "items": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
    "minItems": 1,
}


Prompt = Annotated[
    Any,
    BeforeValidator(_prompts),
    WithJsonSchema(
        {
            "anyOf": [
                TEXT,
                IDS,
                {"type": "array", "items": TEXT, "minItems": 1},
                {"type": "array", "items": IDS, "minItems": 1},
            ],
        }
    ),
]


class CompletionRequest(Sampling):
    """`POST /v1/completions`; each of several prompts has `n` choices, numbered prompt by prompt.

    With `echo`, a choice begins with its prompt, and `max_tokens: 0` asks for nothing else.
    """

    unsupported_fields: ClassVar[Mapping[str, str]] = {
        **REFUSED_COMPLETIONS,
        "prompt_embeds": "prompts are text or token ids",
    }

    prompt: Prompt
    best_of: int | None = Field(default=None, ge=1, le=128)
    echo: bool | None = None
    max_tokens: int | None = Field(default=None, ge=0, le=MAX_TOKENS)
    suffix: str | None = None
    logprobs: int | None = Field(default=None, ge=0, le=20)

    @model_validator(mode="after")
    def _check_supported_values(self) -> Self:
        if self.max_tokens == 0 and not self.echo:
            raise field_error("max_tokens", "expected at least 1; 0 only with echo: true")
        if self.suffix:
            raise unsupported("suffix", "text can only be continued, not inserted")
        if self.best_of not in (None, self.n or 1):
            raise unsupported("best_of", "all generated choices are returned; use n")
        return self
