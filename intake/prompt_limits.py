"""Limits the size of a prompt: its characters, and its messages and their parts.

Invariant: the check takes time in proportion to the body's size, however it is nested.
"""

from typing import Any

from core.errors import InvalidJob
from core.settings.api import LimitSettings

FIELDS = ("prompt", "messages", "input", "documents", "tokens")


def check_prompt(body: dict[str, Any], limits: LimitSettings) -> None:
    """Refuse a body whose prompt exceeds a limit.

    Raises:
        InvalidJob: naming the field and the limit.
    """
    for name in FIELDS:
        value = body.get(name)
        if value is None:
            continue
        characters, items = (len(value), 1) if isinstance(value, str) else _measure(value)
        if characters > limits.prompt_characters:
            text = f"expected at most {limits.prompt_characters} characters or token ids"
            raise InvalidJob(f"{name}: {text}", param=name)
        if items > limits.prompt_items:
            text = f"expected at most {limits.prompt_items} messages and parts of messages"
            raise InvalidJob(f"{name}: {text}", param=name)


def _measure(value: Any) -> tuple[int, int]:
    """Count characters and items; a token id counts as a character, not as an item."""
    characters = items = 0
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, str):
            characters += len(value)
        elif isinstance(value, list):
            numbers = sum(isinstance(item, int) for item in value)
            characters += numbers
            items += len(value) - numbers
            left.extend(value)
        elif isinstance(value, dict):
            left.extend(value.values())
    return characters, items
