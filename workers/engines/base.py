"""The engine protocol: what a worker calls on an engine, and what the engine reports back.

Invariant: each output token id is reported exactly once, in order, with the step that generated
it. Every choice ends with exactly one output that has `finish_reason` or `error`, unless its
generation was aborted; after an abort nothing more is reported for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from core.errors import AttemptError
from jobs.tokenising.messages import TokeniserAnswer, TokeniserRequest

Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings"]

Task = Literal["generate", "embed"]

#: From a job's URL to the endpoint an engine serves; a response is stored as a chat completion.
ENDPOINTS: dict[str, Endpoint] = {
    "/v1/chat/completions": "/v1/chat/completions",
    "/v1/completions": "/v1/completions",
    "/v1/responses": "/v1/chat/completions",
    "/v1/embeddings": "/v1/embeddings",
}

#: Request fields that every engine refuses. `best_of` is refused if it differs from `n`.
REFUSED_FIELDS = (
    "suffix",
    "use_beam_search",
    "prompt_logprobs",
    "prompt_embeds",
    "kv_transfer_params",
    "ec_transfer_params",
)


@dataclass(frozen=True, slots=True)
class Resume:
    """What earlier attempts already logged for one choice.

    Attributes:
        chunks: Token ids, one inner sequence per logged event; engines read them as one sequence.
        text: The concatenated `Output.text` of those events.
    """

    chunks: tuple[tuple[int, ...], ...] = ()
    text: str = ""

    @property
    def count(self) -> int:
        """Number of logged tokens."""
        return sum(len(chunk) for chunk in self.chunks)


@dataclass(frozen=True, slots=True)
class Generation:
    """One request to an engine.

    Attributes:
        id: Unique among the generations that run in the engine now.
        endpoint: Which OpenAI endpoint `body` is for.
        body: The OpenAI request body as the client sent it.
        resume: By choice index, what earlier attempts already logged.
        finished: The choices that ended in an earlier attempt and must not run again.
        account: Whose request it is; engines share what they do before the first step between
            accounts.
    """

    id: str
    endpoint: Endpoint
    body: dict[str, Any]
    resume: dict[int, Resume] = field(default_factory=dict)
    finished: frozenset[int] = frozenset()
    account: str = ""


@dataclass(frozen=True, slots=True)
class AcceptedGeneration:
    """What is known once the prompt is rendered.

    Attributes:
        input_tokens: Tokens of the rendered prompts, or of all inputs of an embedding request.
        choices: How many choices the generation has, finished ones included.
        prompts: How many prompts or inputs it has, each with an equal share of the choices.
        restarted: The logged tokens could not be continued (for example because a grammar's state
            cannot be rebuilt). The engine starts every choice from nothing, those in
            `Generation.finished` too.
        input_lengths: Tokens of each input of an embedding request; empty for other requests.
    """

    input_tokens: int
    choices: int
    restarted: bool = False
    prompts: int = 1
    input_lengths: Sequence[int] = ()


@dataclass(slots=True)
class Output:
    """What one engine step produced for one choice of one generation.

    An embedding has no tokens and no text: its `delta` is `{"embedding": ...}`, the vector's 32-bit
    floats, little-endian, as base64. A text completion with `echo` has its prompt in the `delta` of
    its first output: `{"prompt": {"text": ..., "logprobs": ...}}`; the prompt's tokens are no
    output, and `text` is shown beside it.

    Attributes:
        id: The generation's id.
        index: The choice, or the input of an embedding request, counted from 0.
        token_ids: The new tokens, in order.
        text: The new plain text. It may lag behind the tokens (a stop string may have begun, or a
            character is incomplete), so tokens or text can be empty.
        delta: Set only if the OpenAI chat delta differs from `text` (tool calls, reasoning, removed
            markup). It replaces `text` for chat clients; an empty one shows them nothing.
        logprobs: The OpenAI logprobs object for exactly these tokens.
        finish_reason: Set on the choice's last output: `stop`, `length`, `tool_calls`.
        stop_reason: The stop string or stop token id that ended the choice.
        cached_input_tokens: Prompt tokens that came from the prefix cache; set on the first output.
        error: The choice failed; it is its last output.
    """

    id: str
    index: int
    token_ids: Sequence[int]
    text: str
    delta: dict[str, Any] | None = None
    logprobs: dict[str, Any] | None = None
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    cached_input_tokens: int | None = None
    error: AttemptError | None = None


@dataclass(frozen=True, slots=True)
class EngineInfo:
    """Facts about a started engine.

    Attributes:
        kind: `vllm` or `simulated`.
        served_name: The model's name for clients.
        max_model_len: The context length, in tokens.
        slots: How many sequences run concurrently at most.
        device: The name of the device, such as `cpu`.
        task: What the model does.
        kernel: vLLM's attention kernel on a CPU; otherwise empty.
        extension: vLLM's compiled extension on a CPU; otherwise empty.
        threads: How many threads compute on a CPU; otherwise 1.
        modalities: What a prompt may consist of: text, image, video, audio.
    """

    kind: str
    served_name: str
    max_model_len: int
    slots: int
    device: str
    task: Task = "generate"
    kernel: str = ""
    extension: str = ""
    threads: int = 1
    modalities: tuple[str, ...] = ("text",)


@dataclass(frozen=True, slots=True)
class EngineLoad:
    """The load of an engine now.

    Attributes:
        running: Sequences in the current step.
        waiting: Sequences that were added and are not scheduled yet.
        kv_usage: Used share of the KV cache, 0 to 1.
    """

    running: int
    waiting: int
    kv_usage: float


def choice_seed(seed: int, index: int) -> int:
    """Return the seed of one of a job's choices; after 2^63 - 1, the most engines take, -2^63."""
    return (seed + index + 2**63) % 2**64 - 2**63


class Sink(Protocol):
    """Receives an engine's reports. It is called on the event loop's thread and never blocks."""

    def step(self, outputs: Sequence[Output]) -> None:
        """Take everything that one engine step produced.

        Args:
            outputs: At most one per choice, in no particular order.
        """

    def progress(self) -> None:
        """Note that the engine works although it made no step, for example on a grammar."""

    def dead(self, error: BaseException) -> None:
        """Take the news that the engine stopped working; every generation in it is lost.

        Args:
            error: The cause.
        """


class Engine(Protocol):
    """One model, loaded once, that serves many generations concurrently."""

    async def start(self, sink: Sink) -> EngineInfo:
        """Load and warm up the model.

        Args:
            sink: Receives the outputs of all generations.

        Returns:
            What was loaded.

        Raises:
            EngineDead: the model could not be loaded or the warm-up failed.
        """
        ...

    async def add(self, generation: Generation) -> AcceptedGeneration:
        """Render and enqueue every unfinished choice.

        Outputs may reach the sink before this returns, so the caller registers the generation
        first. Choices whose log already shows their end yield one output without tokens.

        Args:
            generation: The request, with what earlier attempts logged.

        Returns:
            Prompt length and number of choices.

        Raises:
            InvalidJob: the body asks for something this model cannot do; `param` names the field.
            EngineError: this generation could not be added, others may.
            EngineDead: the engine is gone.
        """
        ...

    async def abort(self, generation_id: str) -> None:
        """Stop a generation within one step and free its memory.

        From the call on, nothing more of it is reported to the sink. Its id may be used again
        after the return.

        Args:
            generation_id: The generation; an unknown id is ignored.
        """
        ...

    async def tokenise(self, request: TokeniserRequest) -> TokeniserAnswer:
        """Answer a request to the model's tokeniser; it takes no slot.

        Args:
            request: The request.

        Returns:
            What was asked; `count` is the number of tokens that a job with this chat would have.

        Raises:
            InvalidJob: the request is wrong; `param` names the field.
            EngineError: this request could not be answered, others may.
            EngineDead: the engine is gone.
        """
        ...

    def load(self) -> EngineLoad:
        """Return the load now; it never blocks."""
        ...

    async def probe(self) -> None:
        """Generate one token through the path that jobs take.

        Raises:
            EngineError: the generation failed.
            EngineDead: the engine stopped working.
        """
        ...

    async def close(self) -> None:
        """Stop all generations and free the device; the engine cannot be started again."""
        ...
