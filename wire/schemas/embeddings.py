"""The body of an embedding request."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from wire.schemas.sampling import Addressed

#: A job's log has them all.
MOST_INPUTS = 256
EXPECTED = "text, a list of token ids, or a list of either is expected, none of it empty"


def _inputs(value: Any) -> Any:
    if not _is_input(value):
        many = isinstance(value, list) and 0 < len(value) <= MOST_INPUTS
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
    "maxItems": MOST_INPUTS,
}


class EmbeddingRequest(Addressed):
    """`POST /v1/embeddings`."""

    input: Annotated[Any, BeforeValidator(_inputs), WithJsonSchema({"anyOf": [TEXT, TOKENS, MANY]})]
    dimensions: int | None = Field(default=None, ge=1)
    encoding_format: Literal["float", "base64"] | None = None
