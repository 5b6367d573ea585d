"""The body of a text completion."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from wire.schemas.sampling import REFUSED_COMPLETIONS, Sampling, unsupported


def _one_prompt(value: Any) -> Any:
    """Accept text or token ids, alone or as the only item of a list."""
    prompt = value
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str | list):
        prompt = value[0]
    if isinstance(prompt, str) and prompt:
        return value
    if isinstance(prompt, list) and prompt and all(_is_token(item) for item in prompt):
        return value
    if isinstance(value, list) and len(value) > 1 and isinstance(value[0], str | list):
        raise PydanticCustomError(
            "prompt", "expected one prompt per request; submit one job per prompt"
        )
    raise PydanticCustomError("prompt", "expected text or a list of token ids, not empty")


def _is_token(item: Any) -> bool:
    return type(item) is int and 0 <= item < 2**31


Prompt = Annotated[
    Any,
    BeforeValidator(_one_prompt),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "minLength": 1},
                {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1},
            ],
        }
    ),
]


class CompletionRequest(Sampling):
    """`POST /v1/completions`."""

    unsupported_fields: ClassVar[Mapping[str, str]] = {
        **REFUSED_COMPLETIONS,
        "prompt_embeds": "prompts are text or token ids",
    }

    prompt: Prompt
    best_of: int | None = Field(default=None, ge=1, le=128)
    echo: bool | None = None
    suffix: str | None = None
    logprobs: int | None = Field(default=None, ge=0, le=20)

    @model_validator(mode="after")
    def _check_supported_values(self) -> Self:
        if self.echo:
            raise unsupported("echo", "the prompt is not part of the output")
        if self.suffix:
            raise unsupported("suffix", "text can only be continued, not inserted")
        if self.best_of not in (None, self.n or 1):
            raise unsupported("best_of", "all generated choices are returned; use n")
        return self
