"""Which media a loaded vLLM model takes, and the refusal of all others before vLLM sees them."""

import sys
from typing import Any

from vllm.config import ModelConfig
from vllm.multimodal import MULTIMODAL_REGISTRY

from core.settings.complexity import MediaSettings
from jobs.media import chat_parts, check_parts

KNOWN = ("image", "video", "audio")
#: The API has compared the client's media with its settings; here no size and no count matters.
UNLIMITED = MediaSettings(parts=sys.maxsize, part_bytes=sys.maxsize)


def modalities(model: ModelConfig) -> tuple[str, ...]:
    """Return what a model's prompts may consist of: text, image, video, audio.

    A modality that `limit_mm_per_prompt` sets to 0 is not taken.
    """
    if not model.supports_multimodal_inputs:
        return ("text",)
    limits = MULTIMODAL_REGISTRY.get_processing_info(model).allowed_mm_limits
    return ("text", *(name for name in KNOWN if limits.get(name)))


def check_media(body: dict[str, Any], model: ModelConfig) -> None:
    """Refuse URLs, and media that the model does not take.

    Raises:
        InvalidJob: naming the part.
    """
    parts = list(chat_parts(body.get("messages")))
    if parts:
        check_parts(parts, str(model.served_model_name), frozenset(modalities(model)), UNLIMITED)
