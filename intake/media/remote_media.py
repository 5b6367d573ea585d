"""Finds the URLs among a request's media, and puts data in their place. Pure.

Invariant: a part is named as in the client's own request, whichever API that is for.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from core.errors import InvalidJob
from core.settings.media_fetch import MediaFetchSettings
from jobs.media import (
    MODALITIES,
    CheckUrl,
    ContentPart,
    chat_parts,
    part_kind,
    part_text,
    remote_url,
)
from webhooks.errors import InvalidWebhook
from webhooks.url_rules import WebhookTarget, check_url
from wire.schemas.response_items import FunctionCallOutput, InputImage, InputMessage
from wire.schemas.responses import ResponseRequest
from wire.schemas.sampling import ModelRequest


@dataclass(frozen=True, slots=True)
class RemoteMedia:
    """A URL in a request: the field to name in errors, and what is expected: image, video, audio.

    The URL may hold a signature, so it is neither logged nor repeated in an error.
    """

    field: str
    url: str
    modality: str


def url_check(settings: MediaFetchSettings) -> CheckUrl | None:
    """Return what refuses URLs that are never fetched; None if no URL is fetched at all."""
    if not settings.enabled:
        return None

    def check(field: str, url: str) -> None:
        try:
            media_target(url, settings, field)
        except InvalidWebhook as error:
            raise InvalidJob(error.message, param=field) from None

    return check


def media_target(url: str, settings: MediaFetchSettings, field: str) -> WebhookTarget:
    """Return the parts of a URL that may be fetched, as far as can be told without DNS.

    Raises:
        InvalidWebhook: the URL is not allowed; the text says what was expected.
    """
    target = check_url(url, settings, field)
    if not settings.allows(target.host):
        text = f"{field}: the host is not one that media are fetched from"
        raise InvalidWebhook(text, param=field)
    return target


def remote_media(checked: ModelRequest, body: Mapping[str, Any]) -> list[RemoteMedia]:
    """Return the URLs of a request.

    Args:
        checked: The request as the schema read it.
        body: What is to be stored: of a response, the whole conversation as a chat.
    """
    parts = [part for part in chat_parts(body.get("messages")) if remote_url(part.part)]
    if isinstance(checked, ResponseRequest):
        # The request's own items are the last ones.
        own = [item.field for item in item_parts(checked) if remote_url(item.part)]
        fields = ["previous_response_id"] * (len(parts) - len(own)) + own
        parts = [ContentPart(field, part.part) for field, part in zip(fields, parts, strict=True)]
    return [
        RemoteMedia(field, part_text(part), MODALITIES[part_kind(part)]) for field, part in parts
    ]


def with_data(body: Mapping[str, Any], data: Mapping[str, str]) -> dict[str, Any]:
    """Return a body with `data:` URLs instead of others; the given body is not changed.

    Args:
        body: A chat.
        data: The `data:` URL for each URL.
    """
    messages = [
        {**message, "content": [_with_data(part, data) for part in message["content"]]}
        if isinstance(message.get("content"), list)
        else message
        for message in body["messages"]
    ]
    return {**body, "messages": messages}


def _with_data(part: Any, data: Mapping[str, str]) -> Any:
    if not isinstance(part, Mapping) or not remote_url(part):
        return part
    kind, text = part_kind(part), data[part_text(part)]
    value = part[kind]
    return {**part, kind: {**value, "url": text} if isinstance(value, Mapping) else text}


def item_parts(checked: ResponseRequest) -> Iterator[ContentPart]:
    """Yield the images of a response's own items."""
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
