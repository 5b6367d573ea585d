"""The embeddings object, built from an embedding job's result."""

import base64
from array import array
from typing import Any

from billing.pricing.rating import Cost
from jobs.job import Job
from jobs.result import JobResult, ResultChoice
from wire.views.cost import usage_cost


def embeddings(
    job: Job, result: JobResult, cost: Cost | None = None, *, as_base64: bool = False
) -> dict[str, Any]:
    """Build the embeddings object, with the vectors in the order of the inputs.

    Args:
        job: The embedding job.
        result: Its result; one choice per input.
        cost: What the job cost; the usage shows no cost without it.
        as_base64: Encode each vector as base64 of little-endian 32-bit floats, not as numbers.
    """
    usage = result.usage
    tokens = usage["input_tokens"] if usage is not None else job.input_tokens
    counted = {"prompt_tokens": tokens, "total_tokens": tokens, **usage_cost(cost)}
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _vector(choice, as_base64)}
            for index, choice in sorted(result.choices.items())
        ],
        "model": job.queue,
        "usage": counted,
    }


def _vector(choice: ResultChoice, as_base64: bool) -> str | list[float]:
    """Return the vector of one input; a repeated attempt logged the same vector again."""
    encoded = next(delta["embedding"] for delta in choice.deltas if "embedding" in delta)
    if as_base64:
        return str(encoded)
    return array("f", base64.b64decode(encoded)).tolist()
