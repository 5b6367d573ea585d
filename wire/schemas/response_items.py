"""Items of a response's input: messages, function calls, their results, reasoning."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from wire.schemas.chat_messages import Name
from wire.schemas.leniency import CacheControl, ClientsOwn, NoEffect
from wire.schemas.sampling import Body

ItemId = Annotated[str, Field(min_length=1, max_length=256)]
Encrypted = Annotated[
    Any,
    NoEffect("it is not readable"),
    Field(description="Accepted, without effect: only `content` and `summary` are read."),
]
ItemStatus = Literal["in_progress", "completed", "incomplete"]


class InputText(Body):
    """A text part of the input."""

    type: Literal["input_text"]
    text: str
    cache_control: CacheControl = None


class InputImage(Body):
    """An image as https or data URL, for models with image input."""

    type: Literal["input_image"]
    image_url: str
    detail: Literal["auto", "low", "high"] | None = None


class OutputText(Body):
    """A text part of an earlier response, which clients send back whole."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None


class OutputRefusal(Body):
    """A refusal in an earlier response."""

    type: Literal["refusal"]
    refusal: str


def _kind(value: Any, prefix: str) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return f"{prefix}:{kind}"


InputPart = Annotated[
    Annotated[InputText, Tag("part:input_text")] | Annotated[InputImage, Tag("part:input_image")],
    Discriminator(
        lambda part: _kind(part, "part"),
        custom_error_type="part",
        custom_error_message="expected an object with type input_text or input_image",
    ),
]
OutputPart = Annotated[
    Annotated[OutputText, Tag("part:output_text")] | Annotated[OutputRefusal, Tag("part:refusal")],
    Discriminator(
        lambda part: _kind(part, "part"),
        custom_error_type="part",
        custom_error_message="expected an object with type output_text or refusal",
    ),
]


def _content_kind(content: Any) -> str:
    return "content:parts" if isinstance(content, list) else "content:text"


InputContent = Annotated[
    Annotated[str, Tag("content:text")] | Annotated[list[InputPart], Tag("content:parts")],
    Discriminator(_content_kind),
]
OutputContent = Annotated[
    Annotated[str, Tag("content:text")] | Annotated[list[OutputPart], Tag("content:parts")],
    Discriminator(_content_kind),
]


class Item(Body):
    """Fields of every item."""

    id: ItemId | None = None
    status: ItemStatus | None = None
    cache_control: CacheControl = None
    provider_specific_fields: ClientsOwn = None


class InputMessage(Item):
    """A message of the user, or instructions."""

    type: Literal["message"] = "message"
    role: Literal["user", "system", "developer"]
    content: InputContent


class OutputMessage(Item):
    """An earlier message of the model."""

    type: Literal["message"] = "message"
    role: Literal["assistant"]
    content: OutputContent
    phase: Literal["commentary", "final_answer"] | None = None


class FunctionCall(Item):
    """A function call of the model, with its arguments as JSON text."""

    type: Literal["function_call"]
    call_id: ItemId
    name: Name
    arguments: str


class FunctionCallOutput(Item):
    """The result of a called function."""

    type: Literal["function_call_output"]
    call_id: ItemId
    output: InputContent


class ReasoningText(Body):
    """A text part of the model's reasoning."""

    type: Literal["reasoning_text", "summary_text"]
    text: str


class ReasoningItem(Item):
    """The model's reasoning before its output."""

    type: Literal["reasoning"]
    summary: list[ReasoningText]
    content: list[ReasoningText] | None = None
    encrypted_content: Encrypted = None


class ItemReference(Body):
    """Stands for an item of an earlier response, input or output, that is still stored."""

    type: Literal["item_reference"] | None = None
    id: ItemId


def _item_kind(item: Any) -> str:
    if not isinstance(item, dict):
        return f"item:{type(item).__name__}"
    kind = item.get("type")
    if kind is None:
        kind = "item_reference" if "id" in item and "role" not in item else "message"
    if kind != "message":
        return f"item:{kind}"
    return "item:output" if item.get("role") == "assistant" else "item:input"


AnyItem = Annotated[
    Annotated[InputMessage, Tag("item:input")]
    | Annotated[OutputMessage, Tag("item:output")]
    | Annotated[FunctionCall, Tag("item:function_call")]
    | Annotated[FunctionCallOutput, Tag("item:function_call_output")]
    | Annotated[ReasoningItem, Tag("item:reasoning")]
    | Annotated[ItemReference, Tag("item:item_reference")],
    Discriminator(
        _item_kind,
        custom_error_type="item",
        custom_error_message=(
            "expected a message, function_call, function_call_output, reasoning or item_reference"
        ),
    ),
]


def _input_kind(value: Any) -> str:
    if isinstance(value, list):
        return "input:items"
    return "input:text" if isinstance(value, str) else "input:other"


ResponseInput = Annotated[
    Annotated[str, Tag("input:text")]
    | Annotated[list[AnyItem], Field(min_length=1), Tag("input:items")],
    Discriminator(
        _input_kind,
        custom_error_type="input",
        custom_error_message="expected text or a list of items",
    ),
]
