"""Refuses media that a model does not take, before a job is accepted.

Invariant: a part is named as in the client's own request, whichever API that is for.
"""

from typing import Any

from core.settings.complexity import MediaSettings
from core.settings.media_fetch import MediaFetchSettings
from intake.media.remote_media import item_parts, url_check
from jobs.media import ContentPart, chat_parts, check_parts
from jobs.model_registry import ServedModel
from wire.schemas.chat import ChatRequest
from wire.schemas.responses import ResponseRequest
from wire.schemas.sampling import ModelRequest


def check_media(
    checked: ModelRequest,
    body: dict[str, Any],
    model: ServedModel,
    limits: MediaSettings,
    fetch: MediaFetchSettings | None = None,
) -> None:
    """Refuse media that the model does not take, URLs that are not fetched, and too much of it.

    Args:
        checked: The request as the schema read it.
        body: What is to be stored: of a response, the whole conversation as a chat.
        model: The model.
        limits: How many media a request may have, and how large.
        fetch: Which URLs will be fetched; None: none.

    Raises:
        InvalidJob: naming the part.
    """
    check_url = None if fetch is None else url_check(fetch)
    if isinstance(checked, ChatRequest):
        parts = chat_parts(body.get("messages"))
        check_parts(parts, model.name, model.modalities, limits, check_url)
    elif isinstance(checked, ResponseRequest):
        check_parts(item_parts(checked), model.name, model.modalities, limits, check_url)
        earlier = (
            ContentPart("previous_response_id", part)
            for _, part in chat_parts(body.get("messages"))
        )
        check_parts(earlier, model.name, model.modalities, limits, check_url)
