"""The output of the simulated engine: fixed words, chosen by a hash of the prompt; pure functions.

Invariant: the same body and index always give the same ids, text and finish reason.
"""

import base64
import hashlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice
from typing import Any

from core.errors import InvalidJob
from jobs.prompts import choices_of, prompts_of
from workers.engines.base import REFUSED_FIELDS

HEADS = "al ber cor dan el fin gor hal ir jon kar lum mir nor os per"
TAILS = "a do en ika mas né on path qua ril sen ta um vö 水 🌊"
WORDS = tuple(f"{head}{tail} " for head in HEADS.split() for tail in TAILS.split())  # id -> text

DEFAULT_TOKENS = 64
MAX_CHOICES = 128


@dataclass(frozen=True, slots=True)
class Expected:
    """The whole output of one choice; `ends` are the character offsets after each token."""

    token_ids: tuple[int, ...]
    ends: tuple[int, ...]
    text: str
    finish_reason: str
    stop_reason: str | None = None

    def visible(self, position: int, held_back: int) -> int:
        """Return how many characters may be shown after `position` tokens, before the last."""
        return min(max(0, self.ends[position - 1] - held_back), len(self.text)) if position else 0


def expected(body: dict[str, Any], index: int = 0) -> Expected:
    """Return the engine's output for a valid body."""
    prompt, choice = prompt_of(body, index)
    seed = hashlib.sha256(f"{choice}\0{prompt}".encode()).digest()
    limit = max_tokens(body)
    # A quarter of all prompts end before the limit, as if the model had finished.
    natural = 8 + seed[1] if seed[0] % 4 == 0 and not body.get("ignore_eos") else limit
    stops = stop_strings(body)
    text = ""
    token_ids: list[int] = []
    ends: list[int] = []
    for token in islice(_tokens(seed), min(limit, natural)):
        token_ids.append(token)
        text += WORDS[token]
        ends.append(len(text))
        found = [(text.find(stop), stop) for stop in stops if stop in text]
        if found:
            start, stop = min(found)
            return Expected(tuple(token_ids), tuple(ends), text[:start], "stop", stop)
    reason = "stop" if natural < limit else "length"
    return Expected(tuple(token_ids), tuple(ends), text, reason)


def expected_ids(body: dict[str, Any], index: int = 0) -> tuple[int, ...]:
    """Return the token ids of one choice."""
    return expected(body, index).token_ids


def expected_text(body: dict[str, Any], index: int = 0) -> str:
    """Return the whole text of one choice."""
    return expected(body, index).text


def prompt_of(body: dict[str, Any], index: int) -> tuple[str, int]:
    """Return the prompt of a choice as text, and the choice's number among those of the prompt."""
    count = int(body.get("n") or 1)
    if "messages" in body:
        return prompt_text(body), index
    return str(prompts_of(body)[index // count]), index % count


def prompt_text(body: dict[str, Any]) -> str:
    """Return a body's prompts as one text."""
    if "messages" not in body:
        return "\n".join(map(str, prompts_of(body)))
    return "\n".join(f"{m.get('role')}: {_content(m.get('content'))}" for m in body["messages"])


def prompt_tokens(body: dict[str, Any]) -> int:
    """Return the number of prompt tokens: its words, or its token ids."""
    return sum(map(input_tokens, prompts_of(body) or [prompt_text(body)]))


def inputs(body: dict[str, Any]) -> list[Any]:
    """Return the inputs of an embedding, each a text or a list of token ids."""
    given = body["input"]
    alone = isinstance(given, str) or all(isinstance(token, int) for token in given)
    return [given] if alone else list(given)


def input_tokens(given: Any) -> int:
    """Return the number of tokens of an input: its words, or its token ids."""
    return len(given) if isinstance(given, list) else len(given.split())


def vector(given: Any) -> str:
    """Return the vector of an input, eight numbers from its hash, as engines report it."""
    numbers = hashlib.sha256(str(given).encode()).digest()[:8]
    return base64.b64encode(array("f", [number / 256 for number in numbers]).tobytes()).decode()


def max_tokens(body: dict[str, Any]) -> int:
    """Return the limit the client set, or the default."""
    limit = body.get("max_completion_tokens")
    if limit is None:
        limit = body.get("max_tokens")
    return DEFAULT_TOKENS if limit is None else int(limit)


def stop_strings(body: dict[str, Any]) -> list[str]:
    """Return the client's stop strings."""
    stop = body.get("stop") or []
    return [stop] if isinstance(stop, str) else list(stop)


def validate(body: dict[str, Any]) -> int:
    """Check the fields of a body that this engine uses; return the number of choices.

    Raises:
        InvalidJob: a field is wrong; `param` names it.
    """
    for name in REFUSED_FIELDS:
        if body.get(name):
            raise InvalidJob(f"{name} is not supported", param=name)
    if "messages" in body and body.get("echo"):
        raise InvalidJob("echo is not supported", param="echo")
    _check_prompt(body)
    least = 0 if body.get("echo") else 1
    for name in ("max_completion_tokens", "max_tokens"):
        _check_number(body, name, least, None, int)
    _check_number(body, "n", 1, MAX_CHOICES, int)
    _check_number(body, "temperature", 0, 2, int | float)
    _check_number(body, "top_p", 0, 1, int | float)
    stops = body.get("stop")
    listed = [stops] if isinstance(stops, str) else stops or []
    if not isinstance(listed, list) or not all(isinstance(s, str) and s for s in listed):
        raise InvalidJob("stop must be a non-empty string or a list of them", param="stop")
    choices = int(body.get("n") or 1)
    if body.get("best_of", choices) != choices:
        raise InvalidJob("best_of must equal n", param="best_of")
    return choices_of(body)


def _tokens(seed: bytes) -> Iterator[int]:
    for block in count():
        yield from hashlib.sha256(seed + block.to_bytes(4, "big")).digest()


def _content(content: Any) -> str:
    """Return the text of a message, which may consist of parts."""
    if isinstance(content, list):
        return " ".join(str(p.get("text", "")) if isinstance(p, dict) else str(p) for p in content)
    return "" if content is None else str(content)


def _check_prompt(body: dict[str, Any]) -> None:
    if "messages" in body:
        messages = body["messages"]
        if not isinstance(messages, list) or not messages:
            raise InvalidJob("messages must be a non-empty list", param="messages")
        if not all(isinstance(message, dict) and "role" in message for message in messages):
            raise InvalidJob("each message must be an object with a role", param="messages")
        return
    prompts = prompts_of(body)
    if not prompts or not all(map(_is_prompt, prompts)):
        raise InvalidJob("prompt must be a non-empty string or list of token ids", param="prompt")


def _is_prompt(prompt: Any) -> bool:
    ids = isinstance(prompt, list) and all(isinstance(token, int) for token in prompt)
    return bool(prompt) and (isinstance(prompt, str) or ids)


def _check_number(
    body: dict[str, Any], name: str, least: float, most: float | None, kind: Any
) -> None:
    value = body.get(name)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, kind):
        raise InvalidJob(f"{name} must be a number", param=name)
    if value < least or (most is not None and value > most):
        bound = f"at least {least}" if most is None else f"between {least} and {most}"
        raise InvalidJob(f"{name} must be {bound}", param=name)
