"""Hashes of a delivered result, which a client can compute from the stream that it received.

Invariant: the same token ids and text give the same hashes, however they were split into events.
"""

import hashlib
from dataclasses import dataclass

import orjson

from jobs.result import JobResult, ResultChoice


@dataclass(frozen=True, slots=True)
class DeliveredDigest:
    """One choice's hashes: SHA-256 of its token ids as compact JSON, and of its text."""

    index: int
    output_tokens: int
    token_ids_sha256: str
    text_sha256: str


def delivered(result: JobResult) -> list[DeliveredDigest]:
    """Return the hashes of each choice."""
    return [_digest(index, choice) for index, choice in sorted(result.choices.items())]


def _digest(index: int, choice: ResultChoice) -> DeliveredDigest:
    token_ids = [token for chunk in choice.chunks for token in chunk]
    return DeliveredDigest(
        index,
        len(token_ids),
        hashlib.sha256(orjson.dumps(token_ids)).hexdigest(),
        hashlib.sha256("".join(choice.text).encode()).hexdigest(),
    )
