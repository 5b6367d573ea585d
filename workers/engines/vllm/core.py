"""The thread that owns vLLM's core: only this thread adds, aborts and steps.

Commands reach it through one queue, which is emptied between steps. With `in-process` the thread
steps the core itself. With `separate` it waits on the same queue, into which vLLM's client puts the
outputs of the core process. Without work both block on the queue, so an idle worker uses no CPU.

Invariant: each step makes at most one call to the event loop.
"""

import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import structlog
import torch
from vllm.distributed import parallel_state
from vllm.platforms import current_platform
from vllm.renderers import renderer_from_config
from vllm.v1.engine import EngineCoreOutputs
from vllm.v1.engine.core_client import EngineCoreClient
from vllm.v1.executor import Executor
from vllm.v1.structured_output import StructuredOutputManager

from core.errors import EngineError
from core.settings.engine import EngineSettings
from workers.engines.base import EngineInfo, EngineLoad, Output
from workers.engines.vllm.choices import GenerationChoice
from workers.engines.vllm.config import DESCRIBED_WORKER, engine_config
from workers.engines.vllm.embeddings import Embedding
from workers.engines.vllm.requests import VllmFrontend
from workers.engines.vllm.supported_media import modalities

log = structlog.get_logger()

LIVENESS_SECONDS = 1.0
NICENESS = 5  # of threads that compile grammars
#: How a process of the core ends that an operator, or the kernel for lack of memory, stopped.
STOPPED_BY = frozenset({"SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"})


def free_single_member_groups() -> None:
    """Destroy the Gloo process groups of a core that is their only member.

    vLLM opens a dozen of them even for one process, and no collective of one member uses them.
    The thread of each wakes a hundred times a second (gloo waits in steps of 10 ms), which costs an
    idle worker about 2 % of a core. vLLM's `GroupCoordinator.destroy` tolerates missing groups.
    """
    for reference in list(parallel_state._groups.values()):  # noqa: SLF001 - there is no public list
        group = reference()
        for name in ("cpu_group", "device_group"):
            member = getattr(group, name, None)
            if member is not None and torch.distributed.get_backend(member) == "gloo":
                torch.distributed.destroy_process_group(member)
                delattr(group, name)


def compile_grammars_calmly(manager: StructuredOutputManager) -> None:
    """Let threads that compile grammars give way to the core; native threads take it over.

    A helper compiled each grammar before, so the engine's own compilation is short, but it uses all
    CPUs.
    """
    if not hasattr(manager, "executor"):
        return  # the model has no tokeniser
    count = max(1, (os.cpu_count() or 1) // 2)
    manager.executor.shutdown()
    manager.executor = ThreadPoolExecutor(
        count, thread_name_prefix="grammars", initializer=partial(_give_way, NICENESS)
    )


def _give_way(niceness: int) -> None:
    """Lower the priority of the calling thread; Linux only, elsewhere it is the process's."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)


def was_stopped(exits: Collection[str]) -> bool:
    """Return whether processes ended only by signals that come from outside them."""
    return bool(exits) and all(how in STOPPED_BY for how in exits)


class CoreThread:
    """Runs the core in a thread of its own; `post(name, ...)` calls back on the event loop."""

    def __init__(self, settings: EngineSettings, post: Callable[..., None]) -> None:
        self._settings = settings
        self._separate = settings.core == "separate"
        self._post = post
        self._queue: queue.Queue[Any] = queue.Queue()  # commands, and outputs of a core process
        self._choices: dict[str, GenerationChoice | Embedding] = {}
        self._submitted = 0  # choices; written by the event loop only
        self._taken = 0  # choices; written by the thread only
        self._running = True
        self._stats = EngineLoad(running=0, waiting=0, kv_usage=0.0)
        self._thread = threading.Thread(target=self._run, name="vllm-core", daemon=True)
        self._client: Any = None
        self.front: VllmFrontend

    def start(self) -> None:
        """Load the model; posts `started` with an EngineInfo, or `failed` with the error."""
        self._thread.start()

    def add(self, choices: Sequence[GenerationChoice | Embedding]) -> None:
        """Let the core run choices from its next step on; call it on the event loop only."""
        self._submitted += len(choices)
        self._queue.put(partial(self._add, choices))

    def abort(self, generation_id: str) -> None:
        """Drop all choices of a generation before the next step, then post `aborted`."""
        self._queue.put(partial(self._abort, generation_id))

    def stop(self, timeout: float) -> None:
        """Stop the thread and free the device; blocks."""
        self._running = False
        self._queue.put(lambda: None)  # wakes the thread
        self._thread.join(timeout)

    def load(self) -> EngineLoad:
        """Return the load now; it may be called from any thread."""
        queued = self._submitted - self._taken
        if not self._choices:
            return EngineLoad(running=0, waiting=queued, kv_usage=0.0)
        if self._separate:
            stats = self._stats
            return EngineLoad(stats.running, stats.waiting + queued, stats.kv_usage)
        scheduler = self._client.engine_core.scheduler
        running, waiting = scheduler.get_request_counts()
        return EngineLoad(running, waiting + queued, scheduler.get_kv_cache_usage())

    def _run(self) -> None:
        try:
            self._build()
        except Exception as error:
            self._post("failed", error)
            log.exception("engine_start_failed")
            if self._client is not None:
                self._close()
            return
        try:
            serve = self._wait if self._separate else self._step
            while self._running:
                serve()
        except Exception as error:
            exits = self._exits()
            self._post("dead", error, was_stopped(exits.values()))
            log.exception("engine_died", processes=exits)
        finally:
            self._choices.clear()
            self._close()

    def _exits(self) -> dict[str, str]:
        """Return how each ended process of a separate core ended: a signal or an exit code."""
        manager = self._client.resources.engine_manager if self._separate else None
        if manager is None:
            return {}
        return {
            name: signal.Signals(-code).name if code < 0 else f"exit code {code}"
            for name, code in manager.finished_procs().items()
        }

    def _close(self) -> None:
        self._client.shutdown()
        if self._separate:  # vLLM leaves this to the garbage collector
            self._client.output_queue_thread.join(LIVENESS_SECONDS)
            self._client.ctx.destroy(linger=0)
        self.front.renderer.shutdown()

    def _build(self) -> None:
        config = engine_config(self._settings)
        self.front = VllmFrontend(config, renderer_from_config(config), self._settings)
        self._client = EngineCoreClient.make_client(
            multiprocess_mode=self._separate,
            asyncio_mode=False,
            vllm_config=config,
            executor_class=Executor.get_class(config),
            log_stats=self._separate,  # the only source of that core's load
            renderer=self.front.renderer,
        )
        if self._separate:
            self._queue = self._client.outputs_queue  # so that one wait covers both
        else:
            compile_grammars_calmly(self._client.engine_core.structured_output_manager)
            if config.parallel_config.world_size_across_dp == 1:
                free_single_member_groups()
        self.front.open(self._client.get_supported_tasks())
        device = "cpu" if current_platform.is_cpu() else current_platform.get_device_name()
        kernels: dict[str, Any] = {}
        if config.parallel_config.worker_cls == DESCRIBED_WORKER:
            kernels = self._client.collective_rpc("describe_kernels")[0]
        self._post(
            "started",
            EngineInfo(
                kind="vllm",
                served_name=self._settings.served_name,
                max_model_len=config.model_config.max_model_len,
                slots=config.scheduler_config.max_num_seqs,
                device=device,
                task=self._settings.task,
                modalities=modalities(config.model_config),
                **kernels,
            ),
        )

    def _wait(self) -> None:
        """Handle one item of the queue: a command, or the outputs of one step."""
        try:
            item = self._queue.get(timeout=LIVENESS_SECONDS)
        except queue.Empty:
            self._client.ensure_alive()  # a killed core process sends nothing
            return
        if isinstance(item, EngineCoreOutputs):
            self._emit(item)
        elif isinstance(item, Exception):
            raise item
        else:
            item()

    def _step(self) -> None:
        """Run all waiting commands, then one step of the core."""
        self._run_commands()
        if not self._choices:
            return
        core = self._client.engine_core
        outputs, executed = core.step_fn()
        core.post_step(executed)
        if outputs:
            self._emit(outputs.get(0, EngineCoreOutputs()))
        elif not executed:
            time.sleep(0.001)  # all requests wait, for example until a grammar is compiled

    def _run_commands(self) -> None:
        try:
            self._queue.get(block=not self._choices)()
            while True:
                self._queue.get_nowait()()
        except queue.Empty:
            return

    def _emit(self, step: EngineCoreOutputs) -> None:
        """Turn the core's outputs of one step into ours and post them together."""
        outputs: list[Output] = []
        stopped: list[str] = []
        for made in step.outputs:
            choice = self._choices.get(made.request_id)
            if choice is None:
                continue
            output = choice.take(made)
            outputs.append(output)
            if output.finish_reason is not None or output.error is not None:
                del self._choices[made.request_id]
                if not made.finished:  # a stop string, which only the detokeniser finds
                    stopped.append(made.request_id)
        if stopped:
            self._client.abort_requests(stopped)
        stats = step.scheduler_stats
        if stats is not None:
            self._stats = EngineLoad(
                stats.num_running_reqs, stats.num_waiting_reqs, stats.kv_cache_usage
            )
        if outputs:
            self._post("outputs", outputs)

    def _add(self, choices: Sequence[GenerationChoice | Embedding]) -> None:
        finished = []
        for choice in choices:
            if choice.finished is not None:
                finished.append(choice.finished)
                continue
            name = choice.request.request_id
            self._choices[name] = choice
            try:
                self._hand_over(choice)
            except Exception as error:  # noqa: BLE001  # vLLM raises many types; only this job fails
                del self._choices[name]
                finished.append(choice.failure("the engine core rejected it", error))
        self._taken += len(choices)
        if finished:
            self._post("outputs", finished)

    def _abort(self, generation_id: str) -> None:
        names = [name for name, c in self._choices.items() if c.generation_id == generation_id]
        for name in names:
            del self._choices[name]
        if names:
            self._client.abort_requests(names)
        self._post("aborted", generation_id)

    def _hand_over(self, choice: GenerationChoice | Embedding) -> None:
        if self._separate:
            self._client.add_request(choice.request)
            return
        core = self._client.engine_core
        request, wave = core.preprocess_add_request(choice.request)
        if choice.resumed and request.structured_output_request is not None:
            replay_grammar(request.structured_output_request, choice.resumed)
        core.add_request(request, wave)


def replay_grammar(structured: Any, token_ids: Sequence[int]) -> None:
    """Let the compiled grammar accept the logged tokens before the core uses it."""
    compiled: Future[Any] = structured._grammar  # noqa: SLF001  # the getter hides the future
    replayed: Future[Any] = Future()

    def accept(done: Future[Any]) -> None:
        error = done.exception()
        if error is None and not done.result().accept_tokens("resumed", list(token_ids)):
            error = EngineError("the logged tokens do not fit the grammar")
        if error is None:
            replayed.set_result(done.result())
        else:
            replayed.set_exception(error)

    structured.grammar = replayed
    compiled.add_done_callback(accept)
