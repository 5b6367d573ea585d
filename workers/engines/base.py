"""What a worker asks of an engine, and what it gets back.

Invariant: each output token id is reported exactly once, in order, with the step that made
it; a generation ends with exactly one output that has `finish_reason` or `error`, unless it
was aborted, after which nothing more is reported for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from core.errors import AttemptError

Endpoint = Literal["/v1/chat/completions", "/v1/completions", "/v1/embeddings"]

Task = Literal["generate", "embed"]

#: What a job's URL means to an engine; a response is stored as the chat it comes down to.
ENDPOINTS: dict[str, Endpoint] = {
    "/v1/chat/completions": "/v1/chat/completions",
    "/v1/completions": "/v1/completions",
    "/v1/responses": "/v1/chat/completions",
    "/v1/embeddings": "/v1/embeddings",
}

REFUSED_FIELDS = (  # no engine does these; `best_of` other than `n` is refused as well
    "echo",
    "suffix",
    "use_beam_search",
    "prompt_logprobs",
    "prompt_embeds",
    "kv_transfer_params",
    "ec_transfer_params",
)


@dataclass(frozen=True, slots=True)
class Resume:
    """What an earlier attempt already logged for one choice.

    `chunks` are the token ids, one inner sequence per logged event; engines read them as one
    sequence. `text` is the concatenated `Output.text` of those events.
    """

    chunks: tuple[tuple[int, ...], ...] = ()
    text: str = ""

    @property
    def count(self) -> int:
        """Number of logged tokens."""
        return sum(len(chunk) for chunk in self.chunks)


@dataclass(frozen=True, slots=True)
class Generation:
    """One job's request for text. `body` is the OpenAI request body as the client sent it.

    `resume` maps a choice index to what it already produced; `finished` are the choices that
    ended in an earlier attempt and must not run again.
    """

    id: str
    endpoint: Endpoint
    body: dict[str, Any]
    resume: dict[int, Resume] = field(default_factory=dict)
    finished: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class AcceptedGeneration:
    """What is known once the prompt is rendered.

    `restarted` is true when the logged tokens could not be continued (for example a grammar's
    state cannot be rebuilt): the engine starts every choice from nothing, those in
    `Generation.finished` too.
    """

    input_tokens: int
    choices: int
    restarted: bool = False


@dataclass(slots=True)
class Output:
    """What one engine step produced for one choice of one generation.

    `text` is the new plain text; it may lag behind the tokens (a stop string may have begun, or
    a character is incomplete), so either of the two can be empty. `delta` is set only where an
    OpenAI chat delta differs from that text (tool calls, reasoning, markup taken out); then it
    replaces `text` for chat clients, and an empty one shows them nothing.
    An embedding has no tokens and no text: its `delta` is `{"embedding": ...}`, the vector's 32-bit
    floats, little-endian, as base64.
    `logprobs` is the OpenAI logprobs object for exactly these tokens.
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
    """What a started engine is. `slots` is how many sequences run at once.

    On a CPU, `kernel` and `extension` name vLLM's attention kernel and compiled library, and
    `threads` is how many threads compute; elsewhere they are empty and 1.
    `modalities` are what a prompt may consist of: text, image, video, audio.
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
    """What the engine is doing now. `kv_usage` is 0..1; `waiting` are admitted, not scheduled."""

    running: int
    waiting: int
    kv_usage: float


class Sink(Protocol):
    """Where an engine reports. Both are called on the event loop's thread and never block."""

    def step(self, outputs: Sequence[Output]) -> None:
        """Take everything that one engine step produced."""

    def dead(self, error: BaseException) -> None:
        """Learn that the engine is gone; every generation in it is lost."""


class Engine(Protocol):
    """One model, loaded once, serving many generations at a time."""

    async def start(self, sink: Sink) -> EngineInfo:
        """Load and warm the model. Raises EngineDead when it cannot."""
        ...

    async def add(self, generation: Generation) -> AcceptedGeneration:
        """Render and enqueue every unfinished choice.

        Outputs may reach the sink before the caller goes on, so it registers the generation
        first. Choices whose log already shows their end yield one output without tokens.

        Raises:
            InvalidJob: the body asks for something this model cannot do; `param` names the field.
            EngineError: this generation could not be added, others may.
            EngineDead: the engine is gone.
        """
        ...

    async def abort(self, generation_id: str) -> None:
        """Stop a generation within one step and free its memory. Unknown ids are fine.

        From the call on, the sink hears nothing more of it; its id may be used again after the
        return.
        """
        ...

    def load(self) -> EngineLoad:
        """Return the engine's present load."""
        ...

    async def probe(self) -> None:
        """Generate one token through the real path. Raises EngineError or EngineDead."""
        ...

    async def close(self) -> None:
        """Stop everything and free the device."""
        ...
