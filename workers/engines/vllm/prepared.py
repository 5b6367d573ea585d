"""The renderer's results: a generation that is ready, or one whose grammar is not compiled yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vllm.sampling_params import SamplingParams, StructuredOutputsParams

from workers.engines.base import Generation
from workers.engines.helpers.grammar_guard import GrammarSource
from workers.engines.vllm.choices import GenerationChoice
from workers.engines.vllm.embeddings import Embedding


@dataclass(frozen=True, slots=True)
class Prepared:
    """A generation that is ready for the core.

    Attributes:
        input_tokens: Tokens of the prompt, or of all inputs of an embedding request.
        count: How many choices or inputs the generation has, finished ones included.
        restarted: The logged tokens cannot be continued.
        choices: The choices or inputs that must still run.
    """

    input_tokens: int
    count: int
    restarted: bool
    choices: Sequence[GenerationChoice | Embedding]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A generation whose prompt is rendered and whose grammar no helper has compiled yet.

    Attributes:
        generation: The generation.
        source: Its grammar.
        wanted: The same for vLLM; it is not in `params`.
        request: vLLM's request.
        inputs: vLLM's inputs.
        params: vLLM's parameters.
    """

    generation: Generation
    source: GrammarSource
    wanted: StructuredOutputsParams
    request: Any
    inputs: Any
    params: SamplingParams


#: What is left of a generation that was aborted before it was ready.
NOTHING = Prepared(0, 1, False, ())
