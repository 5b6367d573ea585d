"""Finds the images, videos and audio of a request, without reading them."""

from collections.abc import Iterator, Mapping
from typing import Any

from jobs.media import MODALITIES, chat_parts


def media_fields(body: Mapping[str, Any]) -> Iterator[str]:
    """Yield where the media of a chat stand, such as `messages[2].content[1]`."""
    for field, part in chat_parts(body.get("messages")):
        if part.get("type") in MODALITIES or not MODALITIES.keys().isdisjoint(part):
            yield field
