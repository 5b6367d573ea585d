"""The body of an embedding request."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from wire.schemas.sampling import ModelRequest

#: As many as OpenAI takes. One job's log holds the vectors of all inputs.
MAX_INPUTS = 2048
EXPECTED = "expected text, a list of token ids, or a list of either, none of them empty"


def _inputs(value: Any) -> Any:
    if _is_input(value):
        return value
    if not isinstance(value, list) or not value or not all(map(_is_input, value)):
        raise PydanticCustomError("input", EXPECTED)
    if len(value) > MAX_INPUTS:
        text = f"expected at most {MAX_INPUTS} inputs, got {len(value)}"
        raise PydanticCustomError("input", "{text}", {"text": text})
    return value


def _is_input(value: Any) -> bool:
    if isinstance(value, str):
        return bool(value)
    is_list = isinstance(value, list) and bool(value)
    return is_list and all(type(item) is int and 0 <= item < 2**31 for item in value)


TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
TOKENS: dict[str, Any] = {
    "type": "array",
    "items": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
    "minItems": 1,
}
MANY: dict[str, Any] = {
    "type": "array",
    "items": {"anyOf": [TEXT, TOKENS]},
    "minItems": 1,
    "maxItems": MAX_INPUTS,
}


class EmbeddingRequest(ModelRequest):
    """`POST /v1/embeddings`."""

    input: Annotated[Any, BeforeValidator(_inputs), WithJsonSchema({"anyOf": [TEXT, TOKENS, MANY]})]
    dimensions: int | None = Field(default=None, ge=1)
    encoding_format: Literal["float", "base64"] | None = None
