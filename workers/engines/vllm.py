"""The vLLM engine: what the event loop sees of it.

Prompts are rendered in one executor thread (`vllm_requests`), the core runs in another
(`vllm_core`); this module only passes things between them and the sink. It imports nothing of
vLLM until `start`, because vLLM reads its environment on import and needs seconds to load.

Invariant: the sink hears nothing of a generation once `abort` was called for it, and nothing at
all after `dead`.
"""

import asyncio
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from core.errors import EngineDead, EngineError
from core.logs import adopt_logger
from core.settings import EngineSettings
from workers.engines.base import (
    AcceptedGeneration,
    EngineInfo,
    EngineLoad,
    Generation,
    Output,
    Sink,
    Task,
)

if TYPE_CHECKING:
    from workers.engines.vllm_core import CoreThread

ABORT_SECONDS = 5.0
CLOSE_SECONDS = 15.0


def prepare_environment(settings: EngineSettings) -> None:
    """Set what vLLM reads from the environment; must run before vLLM is first imported."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = str(int(settings.core == "separate"))
    defaults = {
        "VLLM_CPU_KVCACHE_SPACE": str(settings.kv_cache_gib),
        # In this process its lines go where ours go; a process of its own has only vLLM's way.
        "VLLM_CONFIGURE_LOGGING": str(int(settings.core == "separate")),
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def _probe(name: str, token: int, task: Task) -> Generation:
    """Return the least a model can be asked for."""
    if task == "embed":
        return Generation(name, "/v1/embeddings", {"input": [token]})
    body = {"prompt": [token], "max_tokens": 1, "temperature": 0}
    return Generation(name, "/v1/completions", body)


class VllmEngine:
    """One vLLM model behind the `Engine` protocol, its core in this process or in its own."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._renders = ThreadPoolExecutor(1, thread_name_prefix="render")
        self._thread: CoreThread | None = None
        self._dead: EngineDead | None = None
        self._adding: set[str] = set()
        self._aborts: dict[str, asyncio.Future[None]] = {}
        self._probes: dict[str, asyncio.Future[Output]] = {}
        self._probe_count = 0

    async def start(self, sink: Sink) -> EngineInfo:
        """Load and warm the model. Raises EngineDead when it cannot."""
        self._sink = sink
        self._loop = asyncio.get_running_loop()
        self._started: asyncio.Future[EngineInfo] = self._loop.create_future()
        try:
            self._thread = await self._loop.run_in_executor(self._renders, self._make_thread)
            self._thread.start()
            info = await self._started
            await self.probe()
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
            prepared = await self._loop.run_in_executor(
                self._renders, thread.front.prepare, generation
            )
            self._alive()
            if generation.id in self._adding:  # else it was aborted meanwhile
                thread.add(prepared.choices)
        finally:
            self._adding.discard(generation.id)
        return AcceptedGeneration(
            input_tokens=prepared.input_tokens,
            choices=prepared.count,
            restarted=prepared.restarted,
        )

    async def abort(self, generation_id: str) -> None:
        """Stop a generation; returns when the core has let go of it, within one step.

        A core stuck in its step is waited for no longer than ABORT_SECONDS; the sink is spared
        the generation's outputs all the same.
        """
        self._adding.discard(generation_id)
        if self._thread is None or self._dead is not None:
            return
        done = self._aborts.get(generation_id)
        if done is None:
            done = self._aborts[generation_id] = self._loop.create_future()
            self._thread.abort(generation_id)
        await asyncio.wait([done], timeout=ABORT_SECONDS)

    def load(self) -> EngineLoad:
        """Return the engine's present load."""
        if self._thread is None or self._dead is not None:
            return EngineLoad(running=0, waiting=0, kv_usage=0.0)
        return self._thread.load()

    async def probe(self) -> None:
        """Generate one token through the real path. Raises EngineError or EngineDead."""
        thread = self._alive()
        self._probe_count += 1
        name = f"probe {self._probe_count}"
        answer: asyncio.Future[Output] = self._loop.create_future()
        self._probes[name] = answer
        probe = _probe(name, thread.front.probe_token, self._settings.task)
        try:
            await self.add(probe)
            output = await answer
        finally:
            del self._probes[name]
            if not answer.done() or answer.cancelled():
                await self.abort(name)
        if output.error is not None:
            raise output.error

    async def close(self) -> None:
        """Stop everything and free the device."""
        thread, self._thread = self._thread, None
        if thread is not None:
            await self._loop.run_in_executor(None, thread.stop, CLOSE_SECONDS)
            self._fail_waiters(EngineDead("the engine was closed"))
        self._renders.shutdown(wait=False, cancel_futures=True)

    def _make_thread(self) -> "CoreThread":
        prepare_environment(self._settings)
        from workers.engines.vllm_core import CoreThread  # noqa: PLC0415

        adopt_logger("torch")

        def post(method: str, *args: Any) -> None:
            self._loop.call_soon_threadsafe(getattr(self, f"_on_{method}"), *args)

        return CoreThread(self._settings, post)

    def _alive(self) -> "CoreThread":
        if self._dead is not None:
            raise self._dead
        if self._thread is None:
            raise EngineDead("the engine is not running")
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
        if self._probes:
            outputs = [output for output in outputs if not self._answer_probe(output)]
        if outputs:
            self._sink.step(outputs)

    def _answer_probe(self, output: Output) -> bool:
        answer = self._probes.get(output.id)
        if answer is not None and not answer.done():
            answer.set_result(output)
        return answer is not None

    def _on_aborted(self, generation_id: str) -> None:
        self._aborts.pop(generation_id).set_result(None)

    def _on_dead(self, error: Exception) -> None:
        if self._dead is not None:
            return
        self._dead = EngineDead(f"the engine died of {type(error).__name__}")
        self._fail_waiters(self._dead)
        self._sink.dead(self._dead)

    def _fail_waiters(self, error: EngineError | EngineDead) -> None:
        for done in self._aborts.values():
            done.set_result(None)
        self._aborts.clear()
        for answer in self._probes.values():
            if not answer.done():
                answer.set_exception(error)
