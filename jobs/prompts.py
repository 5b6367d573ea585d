"""The prompts of a text completion: one body may hold several, each with `n` choices.

Invariant: choice number `index` of a job belongs to prompt `index // n`. The API, the estimates and
every engine count prompts with these functions, so they agree.
"""

from typing import Any

Prompt = str | list[int]


def prompts_of(body: dict[str, Any]) -> list[Prompt]:
    """Return the prompts of a text completion; an empty list for other requests."""
    given = body.get("prompt")
    if given is None:
        return []
    several = isinstance(given, list) and bool(given) and isinstance(given[0], str | list)
    return list(given) if several else [given]


def choices_of(body: dict[str, Any]) -> int:
    """Return how many choices a request has, over all its prompts."""
    return int(body.get("n") or 1) * max(1, len(prompts_of(body)))


def output_limit_of(body: dict[str, Any]) -> int | None:
    """Return the client's limit on the output tokens of one choice; None without one."""
    for name in ("max_completion_tokens", "max_tokens"):
        if body.get(name) is not None:
            return int(body[name])
    return None
