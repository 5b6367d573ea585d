"""Checks the images, videos and audio of a chat before anything reads them.

Both the API and the workers check. Invariant: media reach a worker as `data:` URLs or base64 text,
and only for a model that takes their modality. The API lets other URLs pass if it fetches them
before the job is accepted; a worker never does.
"""

import binascii
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from core.errors import InvalidJob
from core.settings.complexity import MediaSettings

#: Types of parts that are text.
TEXT_PARTS = frozenset({"text", "refusal", "thinking", "input_text", "output_text"})

#: Type of a part -> the modality a model needs to read it.
MODALITIES = {
    "image_url": "image",
    "input_image": "image",
    "image_embeds": "image",
    "image_pil": "image",
    "video_url": "video",
    "input_audio": "audio",
    "audio_url": "audio",
    "audio_embeds": "audio",
    "input_file": "file",
    "file": "file",
}

#: Types of parts that may have a URL.
URL_PARTS = frozenset({"image_url", "input_image", "video_url", "audio_url"})

#: Takes a field and its URL; raises InvalidJob if the URL is not allowed.
CheckUrl = Callable[[str, str], None]

DATA_URL = re.compile(
    r"data:[\w.+-]{1,64}/[\w.+-]{1,64}(?:;[\w.+-]{1,64}=[\w.+-]{1,64}){0,4};base64,"
)


class ContentPart(NamedTuple):
    """One part of a message's content and where it stands, such as `messages[2].content[1]`."""

    field: str
    part: Mapping[str, Any]


def chat_parts(messages: Any) -> Iterator[ContentPart]:
    """Yield the parts of a chat's messages; plain text has none."""
    if not isinstance(messages, list):
        return
    for place, message in enumerate(messages):
        content = message.get("content") if isinstance(message, Mapping) else None
        if isinstance(content, list):
            for index, part in enumerate(content):
                if isinstance(part, Mapping):
                    yield ContentPart(f"messages[{place}].content[{index}]", part)


def check_parts(
    parts: Iterable[ContentPart],
    name: str,
    modalities: frozenset[str],
    limits: MediaSettings,
    check_url: CheckUrl | None = None,
) -> None:
    """Refuse media that the model does not take, that are too large, or whose URL is refused.

    Args:
        parts: The parts of all messages.
        name: The model's name.
        modalities: What the model takes.
        limits: How many media a request may have, and how large.
        check_url: Checks URLs that will be fetched; without it, only `data:` URLs are accepted.

    Raises:
        InvalidJob: naming the part.
    """
    count = 0
    for field, part in parts:
        kind = part_kind(part)
        if kind in TEXT_PARTS:
            continue
        modality = MODALITIES.get(kind, kind)
        if modality not in modalities:
            taken = ", ".join(sorted(modalities))
            text = f"the model {name!r} does not take {modality} input; it takes {taken}"
            raise InvalidJob(f"{field}: {text}", param=field)
        count += 1
        if count > limits.parts:
            text = f"expected at most {limits.parts} images, videos and audio parts in a request"
            raise InvalidJob(f"{field}: {text}", param=field)
        if check_url is not None and remote_url(part):
            check_url(field, part_text(part))
        else:
            _check_data(field, part, limits.part_bytes)


def part_kind(part: Mapping[str, Any]) -> str:
    """Return a part's type; vLLM finds it by the part's field if it is not given."""
    kind = part.get("type")
    if isinstance(kind, str):
        return kind
    return next((name for name in MODALITIES if name in part), "text")


def part_text(part: Mapping[str, Any]) -> Any:
    """Return the URL or base64 text of a part; what else stands there if it has neither."""
    kind = part_kind(part)
    value = part.get(kind) if kind in part else part.get("image_url")
    return value.get("url", value.get("data")) if isinstance(value, Mapping) else value


def remote_url(part: Mapping[str, Any]) -> bool:
    """Return whether a part has a URL that is no `data:` URL."""
    text = part_text(part)
    return part_kind(part) in URL_PARTS and isinstance(text, str) and text[:5].lower() != "data:"


def _check_data(field: str, part: Mapping[str, Any], max_bytes: int) -> None:
    text = part_text(part)
    if not isinstance(text, str):
        raise InvalidJob(f"{field}: expected a data: URL or base64 text", param=field)
    if len(text) > max_bytes:
        expected = f"expected at most {max_bytes} bytes of data, got {len(text)}"
        raise InvalidJob(f"{field}: {expected}", param=field)
    if part_kind(part) == "input_audio":
        encoded = text
    else:
        head = DATA_URL.match(text)
        if head is None:
            expected = "expected a data: URL with base64 data; URLs are not fetched"
            raise InvalidJob(f"{field}: {expected}", param=field)
        encoded = text[head.end() :]
    try:
        binascii.a2b_base64(encoded, strict_mode=True)
    except ValueError:
        raise InvalidJob(f"{field}: the data is not valid base64", param=field) from None
