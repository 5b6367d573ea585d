"""What chat and text completions have in common: OpenAI's parameters and vLLM's extras.

Invariant: strict types, since workers see the client's own JSON, and unknown fields are errors.
Fields are checked here so that a mistake costs no place in the queue.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from wire.schemas.validation import UNSUPPORTED

#: Fields that speak to the API, not to the model; they are not part of the stored body.
TRANSPORT = ("stream", "stream_options", "service_tier", "metadata", "encoding_format")

INT64 = 2**63 - 1
MAX_TOKENS = 10_000_000
MAX_CHOICES = 128

Tier = Literal["auto", "priority", "default", "flex"]
ModelName = Annotated[str, Field(min_length=1, max_length=256)]
Count = Annotated[int, Field(ge=1, le=MAX_TOKENS)]
TokenId = Annotated[int, Field(ge=0, le=INT64)]
TokenText = Annotated[str, Field(pattern=r"^[0-9]{1,18}$")]
Stop = Annotated[str, Field(min_length=1, max_length=1024)]
Bias = Annotated[float, Field(ge=-100, le=100)]
Metadata = dict[str, str]


class Body(BaseModel):
    """Base of all bodies."""

    model_config = ConfigDict(extra="forbid", strict=True, protected_namespaces=())


class OpenAiBody(Body):
    """A body of one of OpenAI's routes; `refused` says of its own fields why they are not here."""

    refused: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _possible(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for name, why in cls.refused.items():
                if value.get(name) is not None:
                    raise unsupported(name, why)
        return value


class Addressed(OpenAiBody):
    """What every request to a model has."""

    model: ModelName
    user: str | None = Field(default=None, max_length=1024)
    service_tier: Tier | None = None
    metadata: Metadata | None = None

    @property
    def wanted_tokens(self) -> tuple[str, int] | None:
        """The output limit the client set: field and number."""
        return None


class Asking(Addressed):
    """What every request for text has."""

    stream: bool | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)


class StreamOptions(Body):
    """How to stream; OpenAI's `include_obfuscation` is accepted and has no effect."""

    include_usage: bool | None = None
    include_obfuscation: bool | None = None


class StructuredOutputs(Body):
    """vLLM's constraint on the output: exactly one of the first six."""

    json_: str | dict[str, Any] | None = Field(default=None, alias="json")
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    structural_tag: str | None = None
    disable_any_whitespace: bool | None = None
    disable_additional_properties: bool | None = None
    whitespace_pattern: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        kinds = (self.json_, self.regex, self.choice, self.grammar, self.json_object)
        if sum(kind is not None for kind in (*kinds, self.structural_tag)) != 1:
            raise PydanticCustomError(
                "one_of",
                "exactly one of json, regex, choice, grammar, json_object, structural_tag"
                " is expected",
            )
        return self


class TextFormat(Body):
    """Plain text, the default."""

    type: Literal["text"]


class JsonObjectFormat(Body):
    """Any JSON object."""

    type: Literal["json_object"]


class NamedSchema(Body):
    """A JSON schema with its name."""

    name: str = Field(max_length=256)
    description: str | None = None
    schema_: dict[str, Any] | None = Field(default=None, alias="schema")
    strict: bool | None = None


class JsonSchemaFormat(Body):
    """JSON that follows a schema."""

    type: Literal["json_schema"]
    json_schema: NamedSchema


ResponseFormat = Annotated[
    TextFormat | JsonObjectFormat | JsonSchemaFormat, Field(discriminator="type")
]


class Sampling(Asking):
    """Parameters of chat and text completions."""

    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[TokenText, Bias] | None = None
    max_tokens: Count | None = None
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    seed: int | None = Field(default=None, ge=-INT64 - 1, le=INT64)
    stop: Stop | list[Stop] | None = None
    stream_options: StreamOptions | None = None

    top_k: int | None = Field(default=None, ge=-1, le=INT64)
    min_p: float | None = Field(default=None, ge=0, le=1)
    min_tokens: int | None = Field(default=None, ge=0, le=MAX_TOKENS)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    ignore_eos: bool | None = None
    stop_token_ids: list[TokenId] | None = None
    bad_words: list[str] | None = None
    allowed_token_ids: list[TokenId] | None = None
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool | None = None
    include_stop_str_in_output: bool | None = None
    add_special_tokens: bool | None = None
    truncate_prompt_tokens: int | None = Field(default=None, ge=-1, le=INT64)
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None

    @model_validator(mode="before")
    @classmethod
    def _together(cls, value: Any) -> Any:
        if isinstance(value, dict):
            _check_pairs(value)
        return value

    @property
    def wanted_tokens(self) -> tuple[str, int] | None:
        """The output limit the client set: field and number."""
        return ("max_tokens", self.max_tokens) if self.max_tokens else None


def misfit(field: str, text: str) -> PydanticCustomError:
    """Return an error of a whole body that is about one of its fields."""
    return PydanticCustomError("misfit", "{text}", {"field": field, "text": text})


def unsupported(field: str, why: str) -> PydanticCustomError:
    """Return an error about a field, or a value of it, that OpenAI has and no engine here does."""
    text = f"this is not supported: {why}"
    return PydanticCustomError(UNSUPPORTED, "{text}", {"field": field, "text": text})


def only_functions(tool: Any) -> Any:
    """Refuse the tools that OpenAI runs itself."""
    if isinstance(tool, dict) and isinstance(tool.get("type"), str) and tool["type"] != "function":
        raise unsupported("type", "only functions can be called")
    return tool


def _check_pairs(value: dict[str, Any]) -> None:
    """Refuse fields that only make sense with another."""
    if value.get("stream_options") is not None and not value.get("stream"):
        raise misfit("stream_options", "this is only allowed with stream: true")
    if value.get("response_format") and value.get("structured_outputs"):
        raise misfit("structured_outputs", "this and response_format exclude each other")
