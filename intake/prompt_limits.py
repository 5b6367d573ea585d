"""How large a prompt may be: its characters, and its messages and their parts.

Invariant: looking costs no more than reading the body did, however it is nested.
"""

from typing import Any

from core.errors import InvalidJob
from core.settings.api import LimitSettings

FIELDS = ("prompt", "messages", "input")


def check_prompt(body: dict[str, Any], limits: LimitSettings) -> None:
    """Refuse a body whose prompt is larger than the limits.

    Raises:
        InvalidJob: naming the field and the limit.
    """
    for name in FIELDS:
        value = body.get(name)
        if value is None:
            continue
        characters, items = (len(value), 1) if isinstance(value, str) else _measure(value)
        if characters > limits.prompt_characters:
            most = f"at most {limits.prompt_characters} characters (or token ids) are expected"
            raise InvalidJob(f"{name}: {most}", param=name)
        if items > limits.prompt_items:
            most = f"at most {limits.prompt_items} messages and parts of them are expected"
            raise InvalidJob(f"{name}: {most}", param=name)


def _measure(value: Any) -> tuple[int, int]:
    """Count characters and items; a token's id counts as a character, it is no item."""
    characters = items = 0
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            characters += len(one)
        elif isinstance(one, list):
            numbers = sum(isinstance(item, int) for item in one)
            characters += numbers
            items += len(one) - numbers
            left.extend(one)
        elif isinstance(one, dict):
            left.extend(one.values())
    return characters, items
