"""The tokeniser of the simulated engine: each word is a token; pure functions.

Invariant: it counts what the engine counts. The engine's own words keep their ids, so that its
output can be tokenised and put together again; other words get an id from their hash.
"""

import hashlib
from typing import Any

from core.errors import InvalidJob
from jobs.tokenising.messages import TokeniserAnswer, TokeniserRequest
from workers.engines.simulated_text import WORDS, prompt_text, validate

IDS = {word.strip(): token_id for token_id, word in enumerate(WORDS)}


def tokenised(request: TokeniserRequest) -> TokeniserAnswer:
    """Answer a request to the tokeniser.

    Raises:
        InvalidJob: a field is wrong; `param` names it.
    """
    body = request.body
    if request.kind == "detokenize":
        return _text_of(body["tokens"])
    if request.kind not in ("tokenize", "count"):
        raise InvalidJob(f"this worker's tokeniser cannot {request.kind}")
    words = prompt_text(_checked(body)).split()
    if request.kind == "count":
        return TokeniserAnswer(len(words))
    token_ids = [_id_of(word) for word in words]
    return TokeniserAnswer(len(words), token_ids, words if body.get("return_token_strs") else None)


def _checked(body: dict[str, Any]) -> dict[str, Any]:
    if "messages" in body:
        validate(body)
    if body.get("continue_final_message") and body.get("add_generation_prompt"):
        text = "cannot be combined with add_generation_prompt"
        raise InvalidJob(f"continue_final_message: {text}", param="continue_final_message")
    return body


def _text_of(token_ids: list[int]) -> TokeniserAnswer:
    if any(token_id >= len(WORDS) for token_id in token_ids):
        raise InvalidJob(f"tokens: expected ids below {len(WORDS)}", param="tokens")
    text = "".join(WORDS[token_id] for token_id in token_ids)
    return TokeniserAnswer(len(token_ids), text=text)


def _id_of(word: str) -> int:
    known = IDS.get(word)
    return hashlib.sha256(word.encode()).digest()[0] if known is None else known
