"""One input of an embedding request: turns the core's output into a vector.

Invariant: an input is one step of the core and one output, so there is nothing to continue. A new
attempt computes only the missing inputs, and the same input gives the same vector.
"""

import base64

import structlog
import torch
from vllm.v1.engine import EngineCoreOutput, EngineCoreRequest, FinishReason

from core.errors import EngineError
from workers.engines.base import Output

log = structlog.get_logger()


class Embedding:
    """One input of an embedding request; the counterpart of `choices.GenerationChoice`."""

    def __init__(self, generation_id: str, index: int, request: EngineCoreRequest) -> None:
        self.generation_id = generation_id
        self.index = index
        self.request = request
        self.resumed: list[int] = []
        self.finished: Output | None = None

    def take(self, made: EngineCoreOutput) -> Output:
        """Return the vector."""
        if made.finish_reason in (FinishReason.ERROR, FinishReason.ABORT):
            return self.failure("the engine core aborted it", None)
        if made.pooling_output is None:
            return self.failure("the engine core returned no vector", None)
        vector = made.pooling_output.to(torch.float32).cpu().numpy().astype("<f4")
        delta = {"embedding": base64.b64encode(vector.tobytes()).decode()}
        output = Output(self.generation_id, self.index, (), "", delta)
        output.finish_reason = str(FinishReason.STOP)
        if made.prefill_stats is not None:
            output.cached_input_tokens = made.prefill_stats.num_cached_tokens
        return output

    def failure(self, why: str, cause: Exception | None) -> Output:
        """Return the output that ends this input with an error; the cause is only logged."""
        log.error("embedding_failed", generation=self.generation_id, why=why, exc_info=cause)
        error = EngineError(f"embedding failed: {why}")
        return Output(self.generation_id, self.index, (), "", error=error)
