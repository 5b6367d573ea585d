"""Hashes of a delivered result, which a client can compute from the stream that it received.

Invariant: the same token ids and text give the same hashes, however they were split into events.
An input of an embedding request has no tokens: what is hashed is its vector.
"""

import base64
import hashlib
from dataclasses import dataclass

import orjson

from jobs.result import JobResult, ResultChoice


@dataclass(frozen=True, slots=True)
class DeliveredDigest:
    """One choice's hashes: SHA-256 of its token ids as compact JSON, and of its text.

    `vector_sha256` is that of the vector of an embedding request's input, as 32-bit little-endian
    floats; None for a choice without one.
    """

    index: int
    output_tokens: int
    token_ids_sha256: str
    text_sha256: str
    vector_sha256: str | None


def delivered(result: JobResult) -> list[DeliveredDigest]:
    """Return the hashes of each choice."""
    return [_digest(index, choice) for index, choice in sorted(result.choices.items())]


def _digest(index: int, choice: ResultChoice) -> DeliveredDigest:
    vector = next((delta["embedding"] for delta in choice.deltas if "embedding" in delta), None)
    token_ids = [token for chunk in choice.chunks for token in chunk]
    return DeliveredDigest(
        index,
        len(token_ids),
        hashlib.sha256(orjson.dumps(token_ids)).hexdigest(),
        hashlib.sha256("".join(choice.text).encode()).hexdigest(),
        None if vector is None else hashlib.sha256(base64.b64decode(vector)).hexdigest(),
    )
