"""The renderer's results: a generation that is ready, or one whose grammar is not compiled yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from vllm.sampling_params import SamplingParams, StructuredOutputsParams

from workers.engines.base import Generation
from workers.engines.helpers.grammar_guard import GrammarSource
from workers.engines.vllm.choices import GenerationChoice
from workers.engines.vllm.embeddings import Embedding


@dataclass(frozen=True, slots=True)
class Prepared:
    """A generation that is ready for the core.

    Attributes:
        input_tokens: Tokens of the prompts, or of all inputs of an embedding request.
        count: How many choices or inputs the generation has, finished ones included.
        prompts: How many prompts or inputs it has.
        restarted: The logged tokens cannot be continued.
        choices: The choices or inputs that must still run.
        input_lengths: Tokens of each input of an embedding request; empty for other requests.
    """

    input_tokens: int
    count: int
    prompts: int
    restarted: bool
    choices: Sequence[GenerationChoice | Embedding]
    input_lengths: Sequence[int] = ()


class RenderedPrompt(NamedTuple):
    """One prompt: vLLM's inputs and parameters, and the grammar that is not in the parameters."""

    inputs: Any
    params: SamplingParams
    wanted: StructuredOutputsParams | None


@dataclass(frozen=True, slots=True)
class Rendered:
    """A generation whose prompts are rendered.

    Attributes:
        generation: The generation.
        request: vLLM's request.
        source: Its grammar, which no helper has compiled yet; None if it has none.
        prompts: Its prompts, all with the same grammar.
    """

    generation: Generation
    request: Any
    source: GrammarSource | None
    prompts: Sequence[RenderedPrompt]


#: What is left of a generation that was aborted before it was ready.
NOTHING = Prepared(0, 1, 1, False, ())
