"""An engine without a model: fixed words, a latency model and scripted faults.

The output is a pure function of the body (`simulated_text.expected`), so tests and load generators
can compute the whole answer, and a continuation is exact by construction. All sequences share one
step, as in a real engine: prefill of new sequences, a base cost and a cost per sequence.

With `simulated.faults` on, directives in the prompt cause faults after K tokens of an attempt:
`[[fault:NAME]]`, `[[fault:NAME=K]]`, NAME being one of

    error    the generation fails with EngineError
    hang     the generation makes no more progress
    stall    no generation makes any more progress
    die      the engine reports itself dead
    exit     the process exits immediately, as if killed
    segv     the process crashes in native code
    slow     K is seconds here: every step takes that much longer
    restart  logged tokens cannot be continued

`NAME-once` has no effect on a generation that already has logged tokens. K is 4 unless given;
with 0 the fault comes before the first token.

Invariant: each step calls the sink once, and nothing else calls it.
"""

import asyncio
import os
import re
import signal
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from core.errors import ContextLengthExceeded, EngineDead, EngineError
from core.settings.engine import EngineSettings
from jobs.prompts import prompts_of
from jobs.tokenising.messages import TokeniserAnswer, TokeniserRequest
from workers.engines.base import (
    AcceptedGeneration,
    EngineInfo,
    EngineLoad,
    Generation,
    Output,
    Sink,
)
from workers.engines.simulated_text import (
    Expected,
    expected,
    input_tokens,
    inputs,
    max_tokens,
    prompt_of,
    prompt_text,
    prompt_tokens,
    stop_strings,
    validate,
    vector,
)
from workers.engines.simulated_tokens import tokenised

MAX_MODEL_LEN = 32_768
FAULT_TOKENS = 4
EXIT_STATUS = 70
FAULT = re.compile(
    r"\[\[fault:(error|hang|stall|die|exit|segv|slow|restart)(-once)?(?:=([0-9.]+))?\]\]"
)


@dataclass(slots=True)
class _Fault:
    name: str
    value: float


@dataclass(slots=True)
class _Sequence:
    """One running choice: its expected output, its position in it, and its faults."""

    id: str
    index: int
    script: Expected
    held_back: int
    position: int
    sent: int
    prompt_tokens: int
    faults: list[_Fault] = field(default_factory=list)
    vector: str = ""  # of an embedding, which is one step and no text
    made: int = 0  # in this attempt
    echo: str | None = None  # the prompt, shown with the first output

    def due(self, name: str) -> bool:
        """Return whether a fault of this name is due now."""
        return any(f.name == name and self.made >= f.value for f in self.faults)

    def advance(self) -> Output:
        """Return the next token, and text in which no stop string can begin."""
        if self.vector:
            delta = {"embedding": self.vector}
            return Output(self.id, self.index, (), "", delta, finish_reason="stop")
        output = self._next() if self.script.token_ids or self.vector else self._nothing()
        if self.echo is not None:
            output.delta, self.echo = {"prompt": {"text": self.echo, "logprobs": None}}, None
        return output

    def _nothing(self) -> Output:
        """Return the only output of a choice that shows its prompt and generates nothing."""
        return Output(self.id, self.index, (), "", finish_reason=self.script.finish_reason)

    def _next(self) -> Output:
        script = self.script
        token_ids = script.token_ids[self.position : self.position + 1]
        self.position += 1
        self.made += 1
        output = Output(self.id, self.index, token_ids, "")
        if self.made == 1:
            output.cached_input_tokens = 0
        if self.position >= len(script.token_ids):
            output.text = script.text[self.sent :]
            output.finish_reason, output.stop_reason = script.finish_reason, script.stop_reason
            return output
        end = script.visible(self.position, self.held_back)
        output.text = script.text[self.sent : end]
        self.sent = max(self.sent, end)
        return output


class SimulatedEngine:
    """Implements the `Engine` protocol with `expected`; it needs no thread."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._model = settings.simulated
        self._max_model_len = settings.max_model_len or MAX_MODEL_LEN
        self._waiting: deque[_Sequence] = deque()
        self._running: list[_Sequence] = []
        self._work = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._dead: EngineDead | None = None

    async def start(self, sink: Sink) -> EngineInfo:
        """Wait for the time a model would take to load."""
        self._sink = sink
        await asyncio.sleep(self._model.start_seconds)
        self._task = asyncio.create_task(self._steps())
        return EngineInfo(
            kind="simulated",
            served_name=self._settings.served_name,
            max_model_len=self._max_model_len,
            slots=self._settings.slots,
            device="none",
            task=self._settings.task,
        )

    async def add(self, generation: Generation) -> AcceptedGeneration:
        """Script every unfinished choice and let it wait for a slot."""
        self._check_alive()
        body = generation.body
        if generation.endpoint == "/v1/embeddings":
            return self._add_inputs(generation)
        choices = validate(body)
        length = prompt_tokens(body)
        room = self._max_model_len - length
        if room <= 0:
            raise ContextLengthExceeded(
                f"{length} prompt tokens leave no room for output in the model's context "
                f"of {self._max_model_len} tokens",
                param="messages" if "messages" in body else "prompt",
            )
        body = {**body, "max_completion_tokens": min(max_tokens(body), room)}
        resumed = any(resume.count for resume in generation.resume.values())
        faults = _faults(body, resumed) if self._model.faults else []
        restarted = resumed and any(fault.name == "restart" for fault in faults)
        for index in range(choices):
            if index in generation.finished and not restarted:
                continue
            resume = generation.resume.get(index)
            start = resume.count if resume is not None and not restarted else 0
            script = expected(body, index)
            held_back = max((len(stop) - 1 for stop in stop_strings(body)), default=0)
            sent = script.visible(start, held_back)
            if start and resume is not None:
                sent = max(sent, len(resume.text))
            sequence = _Sequence(
                generation.id, index, script, held_back, start, sent, length, faults
            )
            if body.get("echo") and not start:
                sequence.echo = prompt_of(body, index)[0]
            self._waiting.append(sequence)
        self._work.set()
        prompts = max(1, len(prompts_of(body)))
        return AcceptedGeneration(length, choices, restarted, prompts)

    def _add_inputs(self, generation: Generation) -> AcceptedGeneration:
        """Let every input of an embedding wait for a slot."""
        texts = inputs(generation.body)
        for index, text in enumerate(texts):
            if index not in generation.finished:
                nothing = Expected((), (), "", "stop")
                sequence = _Sequence(generation.id, index, nothing, 0, 0, 0, input_tokens(text))
                sequence.vector = vector(text)
                sequence.faults = _parse_faults(str(text)) if self._model.faults else []
                self._waiting.append(sequence)
        self._work.set()
        lengths = tuple(map(input_tokens, texts))
        count = len(texts)
        return AcceptedGeneration(sum(lengths), count, prompts=count, input_lengths=lengths)

    async def abort(self, generation_id: str) -> None:
        """Drop a generation immediately."""
        self._waiting = deque(s for s in self._waiting if s.id != generation_id)
        self._running = [s for s in self._running if s.id != generation_id]

    async def tokenise(self, request: TokeniserRequest) -> TokeniserAnswer:
        """Answer a request to the tokeniser, which takes each word as a token."""
        self._check_alive()
        return tokenised(request)

    def load(self) -> EngineLoad:
        """Return the engine's load now."""
        running = len(self._running)
        return EngineLoad(running, len(self._waiting), running / self._settings.slots)

    async def probe(self) -> None:
        """Wait for the time of one step; raise EngineDead if the engine is dead."""
        self._check_alive()
        await asyncio.sleep(self._model.step_base_seconds)
        self._check_alive()

    async def close(self) -> None:
        """Stop everything."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._waiting.clear()
        self._running.clear()
        self._dead = self._dead or EngineDead("the engine was closed", from_outside=True)

    def _check_alive(self) -> None:
        if self._dead is not None:
            raise self._dead

    async def _steps(self) -> None:
        try:
            await self._step_until_dead()
        except Exception as error:  # noqa: BLE001  # a sink that fails must not look like a hang
            self._die(f"the engine died: {error!r}")

    async def _step_until_dead(self) -> None:
        while self._dead is None:
            if not self._running and not self._waiting:
                self._work.clear()
                await self._work.wait()
            joining = []
            while self._waiting and len(self._running) < self._settings.slots:
                joining.append(self._waiting.popleft())
                self._running.append(joining[-1])
            await asyncio.sleep(self._step_seconds(joining))
            outputs = self._step()
            if outputs:
                self._sink.step(outputs)

    def _step_seconds(self, joining: list[_Sequence]) -> float:
        prefill = sum(s.prompt_tokens + s.position for s in joining)
        slow = [f.value for s in self._running for f in s.faults if f.name == "slow"]
        return (
            prefill / self._model.prefill_tokens_per_second
            + self._model.step_base_seconds
            + self._model.step_per_sequence_seconds * len(self._running)
            + max(slow, default=0.0)
        )

    def _step(self) -> list[Output]:
        """Advance every running sequence by one token, or apply its fault."""
        outputs: list[Output] = []
        if any(sequence.due("stall") for sequence in self._running):
            return outputs
        for sequence in list(self._running):
            if sequence.due("exit"):
                os._exit(EXIT_STATUS)
            if sequence.due("segv"):
                signal.raise_signal(signal.SIGSEGV)  # in this thread, before it goes on
            if sequence.due("die"):
                self._die("the engine died: scripted fault")
                return []
            if sequence.due("hang"):
                continue
            if sequence.due("error"):
                error = EngineError("generation failed: scripted fault")
                output = Output(sequence.id, sequence.index, (), "", error=error)
            else:
                output = sequence.advance()
            outputs.append(output)
            if output.finish_reason is not None or output.error is not None:
                self._running.remove(sequence)
        return outputs

    def _die(self, why: str) -> None:
        self._dead = EngineDead(why)
        self._running.clear()
        self._waiting.clear()
        self._sink.dead(self._dead)


def _faults(body: dict[str, Any], resumed: bool) -> list[_Fault]:
    return _parse_faults(prompt_text(body), resumed=resumed)


def _parse_faults(text: str, *, resumed: bool = False) -> list[_Fault]:
    return [
        _Fault(name, float(value) if value else FAULT_TOKENS)
        for name, once, value in FAULT.findall(text)
        if not (once and resumed)
    ]
