"""The vLLM engine behind the `Engine` protocol, on the event loop's side.

Prompts are rendered in one executor thread (`requests`), large ones with helper processes
(`remote_renderer`), and the core runs in a thread of its own (`core`). This module passes data
between them and the sink. It imports vLLM only in `start`, because vLLM reads its environment on
import and needs seconds to load.

Invariant: nothing of a generation is reported to the sink after `abort` was called for it, and
nothing at all after `dead`.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from core.errors import EngineDead, EngineError, InvalidJob
from core.logs import adopt_logger
from core.settings.engine import EngineSettings
from jobs.tokenising.messages import TokeniserAnswer, TokeniserRequest
from workers.engines.base import (
    AcceptedGeneration,
    EngineInfo,
    EngineLoad,
    Generation,
    Output,
    Sink,
    Task,
)
from workers.engines.helpers.grammar_guard import GrammarGuard
from workers.engines.helpers.remote_renderer import RemoteRenderer
from workers.engines.vllm.environment import built_for_cpu, choose_kernels, prepare_environment
from workers.engines.vllm.warmup import OwnGeneration, WarmUp

if TYPE_CHECKING:
    from workers.engines.vllm.core import CoreThread
    from workers.engines.vllm.prepared import Prepared, Rendered
    from workers.engines.vllm.requests import VllmFrontend

log = structlog.get_logger()

ABORT_SECONDS = 5.0
CLOSE_SECONDS = 15.0
#: How many small requests to the tokeniser a job's prompt may have to wait for.
TOKENISER_PLACES = 2


def _probe(name: str, token: int, task: Task) -> Generation:
    """Return the smallest possible request."""
    if task == "embed":
        return Generation(name, "/v1/embeddings", {"input": [token]})
    body = {"prompt": [token], "max_tokens": 1, "temperature": 0}
    return Generation(name, "/v1/completions", body)


class VllmEngine:
    """One vLLM model; its core runs in this process or in its own, as `engine.core` says."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._renders = ThreadPoolExecutor(1, thread_name_prefix="render")
        self._thread: CoreThread | None = None
        self._dead: EngineDead | None = None
        self._adding: set[str] = set()
        self._aborts: dict[str, asyncio.Future[None]] = {}
        self._own: dict[str, OwnGeneration] = {}  # warm-up and probe generations
        self._probe_count = 0
        self._grammars: GrammarGuard | None = None
        self._remote: RemoteRenderer | None = None
        self._places = asyncio.Semaphore(TOKENISER_PLACES)

    async def start(self, sink: Sink) -> EngineInfo:
        """Load and warm up the model; see `Engine.start`."""
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._started: asyncio.Future[EngineInfo] = self._loop.create_future()
        try:
            self._thread = await self._loop.run_in_executor(self._renders, self._make_thread)
            self._thread.start()
            info = await self._started
            log.info(
                "engine_loaded",
                phase="warming up",
                device=info.device,
                kernel=info.kernel,
                extension=info.extension,
                threads=info.threads,
            )
            await WarmUp(self._run_own, info, self._thread.front.sample_tokens).run()
            self._grammars = await self._guard_grammars(self._thread.front)
            self._remote = await self._open_remote(self._thread.front)
        except EngineDead:
            raise
        except Exception as error:
            raise EngineDead(f"the engine did not start: {error}") from error
        return info

    async def add(self, generation: Generation) -> AcceptedGeneration:
        """Render and enqueue every unfinished choice; see `Engine.add`."""
        thread = self._alive()
        self._adding.add(generation.id)
        try:
            prepared = await self._prepare(thread.front, generation)
            self._alive()
            if generation.id in self._adding:  # otherwise it was aborted meanwhile
                thread.add(prepared.choices)
        finally:
            self._adding.discard(generation.id)
        return AcceptedGeneration(
            input_tokens=prepared.input_tokens,
            choices=prepared.count,
            restarted=prepared.restarted,
            prompts=prepared.prompts,
            input_lengths=prepared.input_lengths,
        )

    async def abort(self, generation_id: str) -> None:
        """Stop a generation; return when the core has dropped it, within one step.

        If the core hangs, this returns after ABORT_SECONDS; the generation's outputs are not
        reported in any case.
        """
        self._adding.discard(generation_id)
        if self._grammars is not None:
            self._grammars.abandon(generation_id)
        if self._remote is not None:
            self._remote.abandon(generation_id)
        if self._thread is None or self._dead is not None:
            return
        done = self._aborts.get(generation_id)
        if done is None:
            done = self._aborts[generation_id] = self._loop.create_future()
            self._thread.abort(generation_id)
        await asyncio.wait([done], timeout=ABORT_SECONDS)

    async def tokenise(self, request: TokeniserRequest) -> TokeniserAnswer:
        """Answer a request to the tokeniser; see `Engine.tokenise`."""
        from workers.engines.vllm.vllm_tokeniser import as_generation  # noqa: PLC0415  # vLLM

        tokeniser, remote = self._alive().front.tokeniser, self._remote
        generation = as_generation(request)
        if remote is None or not remote.takes(generation):
            async with self._places:
                return await self._loop.run_in_executor(self._renders, tokeniser.answer, request)
        answer = await remote.run(generation, partial(tokeniser.answer, request))
        if answer is None:
            raise EngineError("the request was abandoned")
        return answer

    def load(self) -> EngineLoad:
        """Return the engine's load now."""
        if self._thread is None or self._dead is not None:
            return EngineLoad(running=0, waiting=0, kv_usage=0.0)
        return self._thread.load()

    async def probe(self) -> None:
        """Generate one token through the path of jobs; see `Engine.probe`."""
        thread = self._alive()
        self._probe_count += 1
        name = f"probe {self._probe_count}"
        await self._run_own([_probe(name, thread.front.probe_token, self._settings.task)])

    async def close(self) -> None:
        """Stop everything and free the device."""
        thread, self._thread = self._thread, None
        if self._grammars is not None:
            await self._grammars.close()
        if self._remote is not None:
            await self._remote.close()
        if thread is not None:
            await self._loop.run_in_executor(None, thread.stop, CLOSE_SECONDS)
            self._fail_waiters(EngineDead("the engine was closed", from_outside=True))
        self._renders.shutdown(wait=False, cancel_futures=True)

    async def _guard_grammars(self, front: "VllmFrontend") -> GrammarGuard | None:
        """Start the guard of grammars; None if the model takes no grammars."""
        info = await self._loop.run_in_executor(self._renders, front.read_tokenizer_info)
        if info is None:
            return None
        guard = GrammarGuard(self._settings, info, progress=self._sink.progress)
        guard.pool.start()
        return guard

    async def _open_remote(self, front: "VllmFrontend") -> RemoteRenderer | None:
        """Start the helpers of large requests; None if no helper can load the tokeniser."""
        packed = await self._loop.run_in_executor(self._renders, front.pack_tokeniser)
        if packed is None:
            return None
        remote = RemoteRenderer(self._settings, lambda: packed, progress=self._sink.progress)
        remote.pool.start()
        return remote

    async def _prepare(self, front: "VllmFrontend", generation: Generation) -> "Prepared":
        """Render a request; the renderer is free while a helper compiles its grammar."""
        from workers.engines.vllm.prepared import NOTHING, Prepared  # noqa: PLC0415  # vLLM

        remote = self._remote
        if remote is not None and not remote.takes(generation):
            remote = None
        rendered: Prepared | Rendered | None
        if remote is None:
            rendered = await self._loop.run_in_executor(self._renders, front.render, generation)
        else:
            rendered = await remote.run(generation, partial(front.render_apart, generation))
        if rendered is None:  # it was aborted meanwhile
            return NOTHING
        if isinstance(rendered, Prepared):
            return rendered
        assert rendered.source is not None
        if self._grammars is None:
            raise InvalidJob("this model takes no grammars", param=rendered.source.field)
        allowed = generation.id in self._adding and await self._grammars.check(
            generation.id, generation.account, rendered.source
        )
        if not allowed:  # it was aborted meanwhile
            return NOTHING
        if remote is None:
            return await self._loop.run_in_executor(self._renders, front.finish, rendered)
        return await remote.run(generation, lambda _: front.finish(rendered)) or NOTHING

    async def _run_own(
        self, generations: Sequence[Generation], *, cancel: bool = False
    ) -> Sequence[OwnGeneration]:
        """Run internal generations in one batch; they are not reported to the sink.

        Args:
            generations: What to run.
            cancel: Abort each after its first output.

        Raises:
            InvalidJob: the model cannot do one of them.
            EngineError: one of them failed.
            EngineDead: the engine is gone.
        """
        thread = self._alive()
        answers = {generation.id: OwnGeneration() for generation in generations}
        self._own |= answers
        try:
            choices: list[Any] = []
            for generation in generations:
                prepared = await self._loop.run_in_executor(
                    self._renders, thread.front.prepare, generation
                )
                answers[generation.id].choices = prepared.count
                choices += prepared.choices
            self._alive()
            thread.add(choices)
            for answer in answers.values():
                await (answer.began if cancel else answer.ended).wait()
        finally:
            for name, answer in answers.items():
                if not answer.ended.is_set():
                    await self.abort(name)
                del self._own[name]
        for answer in answers.values():
            if answer.error is not None:
                raise answer.error
        return list(answers.values())

    def _make_thread(self) -> "CoreThread":
        prepare_environment(self._settings)
        if built_for_cpu():
            choose_kernels(self._settings)
        from workers.engines.vllm.core import CoreThread  # noqa: PLC0415

        adopt_logger("torch")

        def post(method: str, *args: Any) -> None:
            self._loop.call_soon_threadsafe(getattr(self, f"_on_{method}"), *args)

        return CoreThread(self._settings, post)

    def _alive(self) -> "CoreThread":
        if self._dead is not None:
            raise self._dead
        if self._thread is None:
            raise EngineDead("the engine is not running", from_outside=True)
        return self._thread

    def _on_started(self, info: EngineInfo) -> None:
        if not self._started.done():
            self._started.set_result(info)

    def _on_failed(self, error: Exception) -> None:
        if not self._started.done():
            self._started.set_exception(error)

    def _on_outputs(self, outputs: Sequence[Output]) -> None:
        if self._aborts:
            outputs = [output for output in outputs if output.id not in self._aborts]
        if self._own:
            outputs = [output for output in outputs if not self._take_own(output)]
        if outputs:
            self._sink.step(outputs)

    def _take_own(self, output: Output) -> bool:
        answer = self._own.get(output.id)
        if answer is not None:
            answer.take(output)
        return answer is not None

    def _on_aborted(self, generation_id: str) -> None:
        self._aborts.pop(generation_id).set_result(None)

    def _on_dead(self, error: Exception, from_outside: bool = False) -> None:
        if self._dead is not None:
            return
        why = f"the engine died of {type(error).__name__}"
        self._dead = EngineDead(why, from_outside=from_outside)
        self._fail_waiters(self._dead)
        self._sink.dead(self._dead)

    def _fail_waiters(self, error: EngineError | EngineDead) -> None:
        for done in self._aborts.values():
            done.set_result(None)
        self._aborts.clear()
        for answer in self._own.values():
            answer.fail(error)
