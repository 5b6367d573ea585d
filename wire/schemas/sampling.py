"""Parameters shared by the model routes: OpenAI's and vLLM's additional ones.

Invariant: unknown fields are errors, and `leniency` stores what was validated, because workers get
the stored JSON unchanged. Validation happens before the job is queued: an invalid job never waits.
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from wire.schemas.field_errors import UNSUPPORTED
from wire.schemas.leniency import BeamSearchOnly, Grouping, OwnIds, Priority, RenderOnly, Session

#: Fields that only the API uses; they are not stored in the job's body.
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
Argument = str | int | float | list[str | int | float]


def _metadata_text(value: Any) -> Any:
    """Write values that are not text as JSON; clients of other servers send such metadata."""
    if not isinstance(value, dict):
        return value
    return {
        name: item if isinstance(item, str) else orjson.dumps(item).decode()
        for name, item in value.items()
        if item is not None
    }


Metadata = dict[str, str]
AnyMetadata = Annotated[Metadata, BeforeValidator(_metadata_text)]

#: What vLLM's own server accepts and Penstock refuses, with the reason; of every model route.
REFUSED_HERE = {
    "ec_transfer_params": "caches are not transferred between servers",
    "kv_transfer_params": "caches are not transferred between servers",
    "use_beam_search": "beam search withdraws tokens that were already streamed and logged",
    "watermarking": "the engine adds no watermark",
}
#: The same, of the routes for chat and text completions.
REFUSED_COMPLETIONS = {
    **REFUSED_HERE,
    "logprob_token_ids": "use logprobs: the most likely tokens are returned",
    "prompt_logprobs": "only the log-probabilities of generated tokens are returned",
    "return_token_ids": "the answer has no token ids; GET /v1/jobs/{id}/stream has them",
    "return_tokens_as_token_ids": "logprobs have text and bytes; GET /v1/jobs/{id}/stream has ids",
}
#: Values of an unsupported field that ask for nothing.
NOTHING: tuple[object, ...] = ("none", [])
EMPTY = frozenset({"ec_transfer_params", "kv_transfer_params"})


class Body(BaseModel):
    """Base of all request bodies."""

    model_config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=()
    )


class OpenAiBody(Body):
    """Body of an OpenAI route; `unsupported_fields` maps each unsupported field to the reason."""

    unsupported_fields: ClassVar[Mapping[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _check_supported(cls, value: Any) -> Any:
        if not isinstance(value, dict) or cls.unsupported_fields.keys().isdisjoint(value):
            return value
        for name, why in cls.unsupported_fields.items():
            if asks_for_something(name, value.get(name)):
                raise unsupported(name, why)
        return {name: item for name, item in value.items() if name not in cls.unsupported_fields}


class StructuredOutputs(Body):
    """vLLM's constraints on the output: exactly one of the first six fields."""

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
    def _check_exactly_one(self) -> Self:
        kinds = (self.json_, self.regex, self.choice, self.grammar, self.json_object)
        if sum(kind is not None for kind in (*kinds, self.structural_tag)) != 1:
            raise PydanticCustomError(
                "one_of",
                "expected exactly one of json, regex, choice, grammar, json_object, structural_tag",
            )
        return self


class ModelRequest(OpenAiBody):
    """Fields of every request to a model."""

    model: ModelName
    user: str | None = Field(default=None, max_length=1024)
    service_tier: Tier | None = None
    metadata: AnyMetadata | None = None

    @property
    def output_limit(self) -> tuple[str, int] | None:
        """Name and value of the client's limit on output tokens; None without one."""
        return None


class TextRequest(ModelRequest):
    """Fields of every request that generates text."""

    stream: bool | None = None
    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)

    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    logit_bias: dict[TokenText, Bias] | None = None
    seed: int | None = Field(default=None, ge=-INT64 - 1, le=INT64)
    stop: Stop | list[Stop] | None = None
    top_k: int | None = Field(default=None, ge=-1, le=INT64)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repetition_penalty: float | None = Field(default=None, gt=0, le=10)
    ignore_eos: bool | None = None
    stop_token_ids: list[TokenId] | None = None
    skip_special_tokens: bool | None = None
    include_stop_str_in_output: bool | None = None
    structured_outputs: StructuredOutputs | None = None
    cache_salt: str | None = Field(default=None, min_length=1, max_length=1024)
    vllm_xargs: dict[str, Argument] | None = None

    priority: Priority = None
    request_id: OwnIds = None
    session_id: Session = None
    mm_payload: RenderOnly = None
    return_mm_kwargs: RenderOnly = None


class StreamOptions(Body):
    """How to stream; OpenAI's `include_obfuscation` is accepted and has no effect.

    `continuous_usage_stats` is vLLM's: every chunk has the usage so far, with `include_usage`.
    """

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    include_obfuscation: bool | None = None


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


class StructuralTagFormat(Body):
    """vLLM's structural tags: text whose parts between tags follow a schema."""

    type: Literal["structural_tag"]
    format: dict[str, Any] | None = None
    structures: list[dict[str, Any]] | None = None
    triggers: list[str] | None = None

    @model_validator(mode="after")
    def _check_exactly_one(self) -> Self:
        if (self.format is None) == (self.structures is None or self.triggers is None):
            raise PydanticCustomError("one_of", "expected format, or structures and triggers")
        return self


class RepetitionDetection(Body):
    """vLLM's early end of output that repeats itself."""

    max_pattern_size: int = Field(default=0, ge=0, le=1024)
    min_pattern_size: int = Field(default=0, ge=0, le=1024)
    min_count: int = Field(default=0, ge=0, le=1024)


ResponseFormat = Annotated[
    TextFormat | JsonObjectFormat | JsonSchemaFormat | StructuralTagFormat,
    Field(discriminator="type"),
]


class Sampling(TextRequest):
    """Parameters of chat and text completions."""

    max_tokens: Count | None = None
    n: int | None = Field(default=None, ge=1, le=MAX_CHOICES)
    stream_options: StreamOptions | None = None

    min_tokens: int | None = Field(default=None, ge=0, le=MAX_TOKENS)
    bad_words: list[str] | None = None
    allowed_token_ids: list[TokenId] | None = None
    spaces_between_special_tokens: bool | None = None
    add_special_tokens: bool | None = None
    truncate_prompt_tokens: int | None = Field(default=None, ge=-1, le=INT64)
    truncation_side: Literal["left", "right"] | None = None
    response_format: ResponseFormat | None = None
    repetition_detection: RepetitionDetection | None = None
    thinking_token_budget: int | None = Field(default=None, ge=-1, le=MAX_TOKENS)

    length_penalty: BeamSearchOnly = None
    routed_experts_prompt_start: RenderOnly = None
    return_token_offsets: RenderOnly = None
    stream_interval: Grouping = None

    @model_validator(mode="before")
    @classmethod
    def _check_combinations(cls, value: Any) -> Any:
        if isinstance(value, dict):
            _check_pairs(value)
        return value

    @property
    def output_limit(self) -> tuple[str, int] | None:
        """Name and value of the client's limit on output tokens; None without one."""
        return ("max_tokens", self.max_tokens) if self.max_tokens else None


def field_error(field: str, text: str) -> PydanticCustomError:
    """Create a validation error of a whole body that names one of its fields."""
    return PydanticCustomError("field_error", "{text}", {"field": field, "text": text})


def asks_for_something(name: str, value: Any) -> bool:
    """Return whether a field's value would change the answer if the field were supported."""
    empty = name in EMPTY and value == {}
    return not (value is None or value is False or value in NOTHING or empty)


def unsupported(field: str, why: str) -> PydanticCustomError:
    """Create the error for a field or value that OpenAI supports and our engines do not."""
    text = f"not supported: {why}"
    return PydanticCustomError(UNSUPPORTED, "{text}", {"field": field, "text": text})


def only_functions(tool: Any) -> Any:
    """Reject the tools that OpenAI runs itself."""
    if isinstance(tool, dict) and isinstance(tool.get("type"), str) and tool["type"] != "function":
        raise unsupported("type", "only function tools are available")
    return tool


def _check_pairs(value: dict[str, Any]) -> None:
    """Reject invalid combinations of fields."""
    if value.get("stream_options") is not None and not value.get("stream"):
        raise field_error("stream_options", "only allowed with stream: true")
    if value.get("response_format") and value.get("structured_outputs"):
        raise field_error("structured_outputs", "cannot be combined with response_format")
