"""Refuses media that a model does not take, before a job is accepted.

Invariant: a part is named as in the client's own request, whichever API that is for.
"""

from collections.abc import Iterator
from typing import Any

from core.settings.complexity import MediaSettings
from jobs.media import ContentPart, chat_parts, check_parts
from jobs.model_registry import ServedModel
from wire.schemas.chat import ChatRequest
from wire.schemas.response_items import FunctionCallOutput, InputImage, InputMessage
from wire.schemas.responses import ResponseRequest
from wire.schemas.sampling import ModelRequest


def check_media(
    checked: ModelRequest, body: dict[str, Any], model: ServedModel, limits: MediaSettings
) -> None:
    """Refuse media that the model does not take, URLs, and what exceeds a limit.

    Args:
        checked: The request as the schema read it.
        body: What is to be stored: of a response, the whole conversation as a chat.
        model: The model.
        limits: How many media a request may have, and how large.

    Raises:
        InvalidJob: naming the part.
    """
    if isinstance(checked, ChatRequest):
        check_parts(chat_parts(body.get("messages")), model.name, model.modalities, limits)
    elif isinstance(checked, ResponseRequest):
        check_parts(_item_parts(checked), model.name, model.modalities, limits)
        earlier = (
            ContentPart("previous_response_id", part)
            for _, part in chat_parts(body.get("messages"))
        )
        check_parts(earlier, model.name, model.modalities, limits)


def _item_parts(checked: ResponseRequest) -> Iterator[ContentPart]:
    """Yield the images of the request's own items."""
    for place, item in enumerate(checked.input if isinstance(checked.input, list) else ()):
        if isinstance(item, InputMessage):
            name, content = "content", item.content
        elif isinstance(item, FunctionCallOutput):
            name, content = "output", item.output
        else:
            continue
        for index, part in enumerate(content if isinstance(content, list) else ()):
            if isinstance(part, InputImage):
                fields = {"type": part.type, "image_url": part.image_url}
                yield ContentPart(f"input[{place}].{name}[{index}]", fields)
