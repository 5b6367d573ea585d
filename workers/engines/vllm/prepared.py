"""The renderer's results: a generation that is ready, or one whose grammar is not compiled yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vllm.sampling_params import SamplingParams, StructuredOutputsParams

from workers.engines.base import Generation
from workers.engines.vllm.choices import GenerationChoice
from workers.engines.vllm.embeddings import Embedding
from workers.engines.vllm.grammar_helper import GrammarSource


@dataclass(frozen=True, slots=True)
class Prepared:
    """A generation that is ready for the core.

    Attributes:
        input_tokens: Tokens of the prompts, or of all inputs of an embedding request.
        count: How many choices or inputs the generation has, finished ones included.
        prompts: How many prompts or inputs it has.
        restarted: The logged tokens cannot be continued.
        choices: The choices or inputs that must still run.
    """

    input_tokens: int
    count: int
    prompts: int
    restarted: bool
    choices: Sequence[GenerationChoice | Embedding]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A generation whose prompt is rendered and whose grammar no helper has compiled yet.

    Attributes:
        generation: The generation.
        source: Its grammar.
        wanted: The same for vLLM; it is not in `prompts`.
        request: vLLM's request.
        prompts: vLLM's inputs and parameters of each prompt.
    """

    generation: Generation
    source: GrammarSource
    wanted: StructuredOutputsParams
    request: Any
    prompts: Sequence[tuple[Any, SamplingParams]]

    @property
    def unfinished(self) -> Prepared:
        """What `VllmFrontend.finish` would return, without anything to run."""
        tokens = sum(len(inputs["prompt_token_ids"]) for inputs, _ in self.prompts)
        count = len(self.prompts)
        return Prepared(tokens, count * (self.request.n or 1), count, False, ())
