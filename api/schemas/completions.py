"""The body of a text completion."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from api.schemas.sampling import Sampling


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
        raise PydanticCustomError("prompt", "one prompt per request is expected; send one job each")
    raise PydanticCustomError(
        "prompt", "text or a list of token ids is expected, and it must not be empty"
    )


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

    prompt: Prompt
    best_of: int | None = Field(default=None, ge=1, le=128)
    echo: Literal[False] | None = None
    suffix: Literal[""] | None = None
    logprobs: int | None = Field(default=None, ge=0, le=20)
