"""Checks what a request's schema cannot: its model's task and context, its times and metadata."""

import orjson

from core.errors import ContextLengthExceeded, InvalidJob
from intake.errors import UnsupportedModel
from jobs.model_registry import ServedModel
from wire.schemas.sampling import ModelRequest

EMBEDDINGS = "/v1/embeddings"


def check_task(model: ServedModel, url: str) -> None:
    """Refuse a model that cannot serve requests of this URL.

    Raises:
        UnsupportedModel: naming the model.
    """
    if (url == EMBEDDINGS) != (model.task == "embed"):
        fault = "does not generate text" if model.task == "embed" else "does not embed text"
        raise UnsupportedModel(f"model: {model.name!r} {fault}", param="model")


def check_length(checked: ModelRequest, max_tokens: int) -> None:
    """Refuse a limit on output tokens that exceeds the model's context.

    A limit that only does not fit beside the prompt is shortened by the engine.

    Args:
        checked: The request as the schema read it.
        max_tokens: The length of the model's context.

    Raises:
        ContextLengthExceeded: naming the field.
    """
    wanted = checked.output_limit
    if wanted is not None and wanted[1] > max_tokens:
        raise ContextLengthExceeded(
            f"{wanted[0]}: {wanted[1]} tokens exceed the model's context of {max_tokens} tokens",
            param=wanted[0],
        )


def check_times(start_by: int | None, deadline: int | None) -> None:
    """Refuse a job that may start only after its deadline; times are Unix milliseconds.

    Raises:
        InvalidJob: naming the field.
    """
    if deadline and start_by and start_by > deadline:
        raise InvalidJob("start_by: expected a time before deadline", param="start_by")


def check_metadata(metadata: dict[str, str] | None, max_bytes: int) -> None:
    """Refuse metadata whose JSON is longer than `max_bytes`.

    Raises:
        InvalidJob: naming the field.
    """
    if metadata and len(orjson.dumps(metadata)) > max_bytes:
        text = f"metadata: expected at most {max_bytes} bytes of JSON"
        raise InvalidJob(text, param="metadata")
