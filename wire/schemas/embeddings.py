"""The body of an embedding request."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from wire.schemas.sampling import ModelRequest

#: One job's log must hold the vectors of all inputs.
MAX_INPUTS = 256
EXPECTED = "expected text, a list of token ids, or a list of either, none of them empty"


def _inputs(value: Any) -> Any:
    if not _is_input(value):
        many = isinstance(value, list) and 0 < len(value) <= MAX_INPUTS
        if not many or not all(_is_input(item) for item in value):
            raise PydanticCustomError("input", EXPECTED)
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
