"""The warm-up of a vLLM engine: it runs the kinds of work that jobs will bring.

Kernels that are compiled, tuned or configured on first use are ready afterwards, and a kernel that
does not work on this machine fails the start instead of a job.

Every OpenMP thread takes part: the first batch has at least as many prompts as there are threads
(or fills all slots), and vLLM distributes the heads and query blocks of a batch over all threads.

Invariant: the first prompts are long. vLLM's AMX attention raises SIGILL if the first call of a
thread has 1 to 4 query tokens; a first call with 5 or more configures the thread.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from core.errors import EngineDead, EngineError, InvalidJob
from workers.engines.base import EngineInfo, Generation, Output

log = structlog.get_logger()

PART_SECONDS = 600.0  # a GPU may compile kernels in this time
LONG = 64  # tokens
LENGTHS = (64, 33, 17, 8, 5, 4, 3, 2, 1)  # tokens
DECODED = 4  # tokens
GRAMMAR = 24  # tokens, at most
CANCELLED = 64  # tokens, if it is not cancelled
SCHEMA = {
    "type": "object",
    "properties": {"ready": {"type": "boolean"}},
    "required": ["ready"],
    "additionalProperties": False,
}


class OwnGeneration:
    """The collected outputs of one internal generation."""

    def __init__(self) -> None:
        self.choices = 1
        self.text = ""
        self.tokens = 0
        self.error: Exception | None = None
        self.began = asyncio.Event()
        self.ended = asyncio.Event()
        self._finished = 0

    def take(self, output: Output) -> None:
        """Add one output; the first sets `began`, the last or an error sets `ended`."""
        self.text += output.text
        self.tokens += len(output.token_ids)
        self.began.set()
        if output.error is not None:
            self.fail(output.error)
        elif output.finish_reason is not None:
            self._finished += 1
            if self._finished >= self.choices:
                self.ended.set()

    def fail(self, error: Exception) -> None:
        """End the answer with an error, unless it has ended."""
        if not self.ended.is_set():
            self.error = error
            self.began.set()
            self.ended.set()


class RunOwn(Protocol):
    """Runs internal generations in one batch."""

    async def __call__(
        self, generations: Sequence[Generation], *, cancel: bool = False
    ) -> Sequence[OwnGeneration]:
        """Return the answers; with `cancel`, abort each after its first output."""
        ...


@dataclass
class WarmUp:
    """The warm-up of one engine.

    Args:
        run_own: Runs a batch.
        info: The started engine.
        token_ids: Valid token ids from which prompts are made.
    """

    run_own: RunOwn
    info: EngineInfo
    token_ids: Sequence[int]
    _count: int = field(default=0, init=False)
    _tokens: int = field(default=0, init=False)
    _text: str = field(default="", init=False)

    async def run(self) -> None:
        """Run every part and log the figures.

        Raises:
            EngineDead: a part failed or did not end; the message names the part.
        """
        began = time.monotonic()
        parts = self._text_parts() if self.info.task == "generate" else self._embedding_parts()
        seconds = {}
        refused = []
        for name, part in parts.items():
            log.info("engine_warming_up", part=name)
            part_began = time.monotonic()
            try:
                async with asyncio.timeout(PART_SECONDS):
                    await part()
            except InvalidJob as error:
                log.warning("warmup_part_unsupported", part=name, error=error.message)
                refused.append(name)
            except TimeoutError as error:
                raise EngineDead(
                    f"the warm-up failed: {name}: no end within {PART_SECONDS:.0f} s"
                ) from error
            except (EngineError, EngineDead) as error:
                raise EngineDead(f"the warm-up failed: {name}: {error}") from error
            seconds[name] = round(time.monotonic() - part_began, 3)
        log.info(
            "engine_warm",
            seconds=round(time.monotonic() - began, 3),
            parts=seconds,
            refused=refused,
            tokens=self._tokens,
            threads=self.info.threads,
        )

    def _text_parts(self) -> dict[str, Callable[[], Awaitable[None]]]:
        return {
            "long prompts": self._long_prompts,
            "prompts of several lengths": self._several_lengths,
            "stop string": self._stop_string,
            "grammar": self._grammar,
            "log probabilities": self._logprobs,
            "sampling": self._sampling,
            "choices": self._choices,
            "prefix cache": self._prefix_cache,
            "cancel": self._cancel,
        }

    def _embedding_parts(self) -> dict[str, Callable[[], Awaitable[None]]]:
        return {
            "long inputs": self._long_inputs,
            "inputs of several lengths": self._several_inputs,
            "cancel": self._cancel_inputs,
        }

    async def _long_prompts(self) -> None:
        batch = [self._completion(LONG, max_tokens=1) for _ in range(self._batch_size())]
        await self._run(batch)

    async def _several_lengths(self) -> None:
        """Decode from prompts of several lengths; half are sampled, half are greedy."""
        sampled = {"temperature": 0.8, "top_p": 0.9, "top_k": 40, "seed": 1}
        batch = [
            self._completion(length, max_tokens=DECODED, **(sampled if number % 2 else {}))
            for number, length in enumerate(LENGTHS)
        ]
        self._text = "".join(answer.text for answer in await self._run(batch))

    async def _stop_string(self) -> None:
        """Stop at a character that the model has just generated, so that a stop is likely."""
        stop = self._text.strip()[:1] or "."
        await self._run([self._completion(LENGTHS[0], max_tokens=2 * DECODED, stop=[stop])])

    async def _grammar(self) -> None:
        form = {"structured_outputs": {"json": SCHEMA}}
        await self._run([self._completion(8, max_tokens=GRAMMAR, ignore_eos=False, **form)])

    async def _logprobs(self) -> None:
        """Ask for log probabilities alone and beside a request without them."""
        asks = self._completion(8, max_tokens=DECODED, logprobs=2)
        await self._run([asks])
        beside = self._completion(8, max_tokens=DECODED, logprobs=2, seed=2, temperature=0.8)
        await self._run([beside, self._completion(8, max_tokens=DECODED)])

    async def _sampling(self) -> None:
        """Sample along each path: each alone first, since a batch may take another path."""
        paths: list[dict[str, Any]] = [
            {},
            {"seed": 3},
            {"top_k": 5},
            {"top_p": 0.9},
            {"min_p": 0.1},
            {"top_k": 5, "top_p": 0.9, "min_p": 0.1, "seed": 3},
            {"presence_penalty": 0.5, "frequency_penalty": 0.5, "repetition_penalty": 1.1},
            {"logit_bias": {str(self.token_ids[0]): 1.0}},
            {"min_tokens": 2},
            {"bad_words": ["a"]},
            {"allowed_token_ids": list(self.token_ids[:8])},
        ]
        batch = []
        for fields in paths:
            await self._run([self._completion(8, max_tokens=2, temperature=0.8, **fields)])
            batch.append(self._completion(8, max_tokens=2, temperature=0.8, **fields))
        await self._run(batch)

    async def _choices(self) -> None:
        generation = self._completion(8, max_tokens=DECODED, temperature=0.8, n=2)
        await self._run([generation])

    async def _prefix_cache(self) -> None:
        """Repeat a prompt, so that its first blocks come from the cache."""
        first = self._completion(4 * LONG, max_tokens=1)
        await self._run([first])
        await self._run([Generation(self._name(), first.endpoint, first.body)])

    async def _cancel(self) -> None:
        await self._run([self._completion(8, max_tokens=CANCELLED)], cancel=True)

    def _completion(self, length: int, max_tokens: int, **fields: Any) -> Generation:
        """Return a completion that fits the model's context."""
        room = self.info.max_model_len
        max_tokens = min(max_tokens, max(1, room // 4))
        body = {
            "prompt": self._prompt(min(length, room - max_tokens)),
            "max_tokens": max_tokens,
            "temperature": 0,
            "ignore_eos": True,
            **fields,
        }
        return Generation(self._name(), "/v1/completions", body)

    async def _long_inputs(self) -> None:
        await self._run([self._embedding([LONG] * self._batch_size())])

    async def _several_inputs(self) -> None:
        await self._run([self._embedding(LENGTHS)])

    async def _cancel_inputs(self) -> None:
        await self._run([self._embedding([LONG])], cancel=True)

    def _embedding(self, lengths: Sequence[int]) -> Generation:
        room = self.info.max_model_len
        prompts = [self._prompt(min(length, room)) for length in lengths]
        return Generation(self._name(), "/v1/embeddings", {"input": prompts})

    async def _run(
        self, batch: Sequence[Generation], *, cancel: bool = False
    ) -> Sequence[OwnGeneration]:
        answers = await self.run_own(batch, cancel=cancel)
        for generation in batch:
            prompts = generation.body.get("input") or [generation.body["prompt"]]
            self._tokens += sum(len(prompt) for prompt in prompts)
        self._tokens += sum(answer.tokens for answer in answers)
        return answers

    def _batch_size(self) -> int:
        return min(max(2, self.info.threads), self.info.slots)

    def _name(self) -> str:
        self._count += 1
        return f"warm-up {self._count}"

    def _prompt(self, length: int) -> list[int]:
        """Return `length` tokens; each prompt starts with another one, so no prefix is cached."""
        start = self._count
        return [self.token_ids[(start + n) % len(self.token_ids)] for n in range(length)]
