"""The runner: the only place that decides what happens to a claimed job.

Claim -> add to the engine -> events to the step writer -> end, retry, hand-over or loss.
Invariant: every run leaves `runs` exactly once, by `_release`, which acknowledges its ticket;
before that its end stands in Redis, or Redis said that the job is no longer ours.
"""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import Any

import structlog

from core.errors import (
    DeadlineExceeded,
    EngineDead,
    EngineError,
    InvalidJob,
    PipelineError,
    RunTimeout,
    StoreUnavailable,
)
from core.settings import Settings
from core.tracing import joined
from jobs.result import fold
from jobs.retry import Retry, decide
from jobs.status import Status
from jobs.store.job_store import JobStore
from jobs.store.transitions import Appended, ClaimedJob
from workers.attempt import Attempt
from workers.attempt_span import write_attempt, write_wait
from workers.batcher import Acknowledgeable
from workers.circuit_breaker import CircuitBreaker
from workers.engines.base import ENDPOINTS, Engine, Generation, Output, Resume
from workers.step_writer import StepWriter
from workers.worker_metrics import Telemetry

log = structlog.get_logger()

RETRY_SECONDS = 0.2
ABORT_SECONDS = 1.0


class Runner:
    """Runs every job this worker has claimed; also the engine's sink."""

    def __init__(
        self,
        store: JobStore,
        engine: Engine,
        breaker: CircuitBreaker,
        settings: Settings,
        worker: str,
        *,
        room_changed: Callable[[], None],
        fatal: Callable[[BaseException], None],
    ) -> None:
        self._store = store
        self._engine = engine
        self._breaker = breaker
        self._settings = settings
        self._queue = settings.engine.served_name
        self._worker = worker
        self._room_changed = room_changed
        self._fatal = fatal
        self._random = Random()
        self._telemetry = Telemetry(self._queue)
        self._by_generation: dict[str, Attempt] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self._dying = False
        self.runs: dict[str, Attempt] = {}
        self.last_step_at = time.monotonic()
        self.writer = StepWriter(store, settings.stream, self._queue, self._answered)

    # --- starting ---------------------------------------------------------------------

    def start(self, claimed: ClaimedJob, ticket: Acknowledgeable) -> None:
        """Run a claimed job."""
        generation = Generation(
            id=f"{claimed.id}.{claimed.fence}",
            endpoint=ENDPOINTS.get(claimed.spec.url, "/v1/chat/completions"),
            body=claimed.spec.body,
        )
        run = Attempt(
            claimed=claimed,
            ticket=ticket,
            generation=generation,
            claimed_at=time.monotonic(),
            written=claimed.seq,
            output_tokens=claimed.output_tokens,
            watched=claimed.watched,
            trace=joined(claimed.spec.traceparent),
        )
        run.log = log.bind(**run.ids)
        self.runs[run.id] = run
        self._empty.clear()
        self._by_generation[generation.id] = run
        self._telemetry.started(run)
        write_wait(run)
        run.log.info("attempt_started", attempt=claimed.attempt, fence=claimed.fence)
        loop = asyncio.get_running_loop()
        left = max(0.0, (claimed.run_deadline - claimed.now) / 1000)
        self._timers[run.id] = loop.call_later(left, self._out_of_time, run)
        self._spawn(self._add(run))

    async def _add(self, run: Attempt) -> None:
        try:
            if run.claimed.spec.url not in ENDPOINTS:
                text = f"this worker does not know {run.claimed.spec.url}"
                raise InvalidJob(text, param="url")
            if run.claimed.output_tokens:
                await self._resume(run)
            run.given_at = time.monotonic()
            accepted = await self._engine.add(run.generation)
        except PipelineError as error:
            if isinstance(error, EngineDead):
                self.dead(error)
            await self._failed(run, error)
            return
        if run.stopping:
            # Cancelled, timed out or lost while the prompt was rendered.
            await self._abort(run)
        if run.over:
            return
        run.accepted_at = time.monotonic()
        run.accept(accepted)
        self._telemetry.accepted(run)
        if run.failure is not None:
            await self._failed(run, run.failure)
        elif run.pending or run.stopping:
            self.writer.changed(run)

    async def _resume(self, run: Attempt) -> None:
        """Read what earlier attempts logged, so that the engine continues after it."""
        events = await self._read_log(run)
        result = fold(events)
        run.finished_choices = {
            index for index, choice in result.choices.items() if choice.finish_reason is not None
        }
        generation = Generation(
            id=run.generation.id,
            endpoint=run.generation.endpoint,
            body=run.generation.body,
            resume={
                index: Resume(tuple(choice.chunks), "".join(choice.text))
                for index, choice in result.choices.items()
                if choice.finish_reason is None
            },
            finished=frozenset(run.finished_choices),
        )
        run.generation = generation
        run.log.info("attempt_continues", tokens=run.claimed.output_tokens)

    async def _read_log(self, run: Attempt) -> list[Any]:
        while True:
            try:
                return await self._store.read_log(run.id, 0)
            except StoreUnavailable:
                if run.over:
                    raise
                await asyncio.sleep(RETRY_SECONDS)

    # --- the engine's reports ---------------------------------------------------------

    def step(self, outputs: Sequence[Output]) -> None:
        """Take one engine step."""
        self.last_step_at = time.monotonic()
        self._telemetry.stepped(outputs, self.last_step_at)
        for output in outputs:
            run = self._by_generation.get(output.id)
            if run is None or run.stopping:
                continue
            if run.first_token_at is None and output.token_ids:
                run.first_token_at = self.last_step_at
                self._telemetry.first_token(run)
            run.take(output)
            if run.failure is not None:
                self._spawn(self._failed(run, run.failure))
            elif run.accepted is not None:
                self.writer.changed(run)
        self._room_changed()

    def dead(self, error: BaseException) -> None:
        """The engine is gone: give every job back and leave."""
        if self._dying:
            return
        self._dying = True
        log.error("engine_dead", error=repr(error), jobs=len(self.runs))
        for run in list(self.runs.values()):
            if not run.stopping:
                self._spawn(self._failed(run, EngineDead("the engine died")))
        self._spawn(self._leave(error))

    async def _leave(self, error: BaseException) -> None:
        try:
            async with asyncio.timeout(self._settings.worker.drain_seconds + 1):
                await self._empty.wait()
        except TimeoutError:
            log.warning("engine_dead_jobs_left_to_their_leases", jobs=len(self.runs))
        self._fatal(error)

    # --- ends -------------------------------------------------------------------------

    def _answered(self, run: Attempt, answer: Appended) -> None:
        """Hear what the append script said about a run."""
        run.watched = answer == "watched"
        if answer == "finished":
            assert run.ending is not None
            self._ended(run, run.ending.status)
        elif answer == "lost":
            self.lose(run)
        elif answer == "cancel":
            run.watched = True
            self.cancel(run.id)

    def _ended(self, run: Attempt, status: Status) -> None:
        if status is Status.COMPLETED:
            self._breaker.record_success()
        run.log.info("job_ended", status=status, output_tokens=run.output_tokens)
        self._release(run, status)

    def cancel(self, job_id: str) -> None:
        """The client wants a job stopped: abort it and end it with what it has."""
        run = self.runs.get(job_id)
        if run is None or run.stopping:
            return
        self._spawn(self._abort(run))
        run.end(Status.CANCELLED)
        self.writer.changed(run)

    def watched(self, job_id: str) -> None:
        """Somebody began to watch a job: stop coalescing."""
        run = self.runs.get(job_id)
        if run is not None:
            run.watched = True
            if run.pending:
                self.writer.flush(run)

    def lose(self, run: Attempt) -> None:
        """Another attempt owns the job now: stop without writing."""
        if run.over:
            return
        run.log.warning("lease_lost", fence=run.claimed.fence)
        self._spawn(self._abort(run))
        self._release(run, "lost")

    def _out_of_time(self, run: Attempt) -> None:
        if run.stopping:
            return
        limit_ms = int(self._settings.limits.run_seconds * 1000)
        self._spawn(self._abort(run))
        if run.claimed.run_deadline < run.claimed.now + limit_ms:
            run.end(Status.EXPIRED, DeadlineExceeded("the deadline passed while the job ran"))
        else:
            run.end(Status.FAILED, RunTimeout(f"the job ran longer than {limit_ms / 1000:g} s"))
        self.writer.changed(run)

    async def _failed(self, run: Attempt, error: PipelineError) -> None:
        """An attempt failed: try again later, or end the job."""
        if run.over or run.failing or run.ending is not None:
            return
        run.failing = True
        run.error = error.code
        if isinstance(error, EngineError):
            self._breaker.record_failure()
            await self._abort(run)
        left = (run.claimed.run_deadline - run.claimed.now) / 1000
        left -= time.monotonic() - run.claimed_at
        decision = decide(error, run.claimed.attempt, self._settings.retry, left, self._random)
        run.log.warning(
            "attempt_failed",
            code=error.code,
            attempt=run.claimed.attempt,
            decision=type(decision).__name__,
        )
        self._telemetry.failed(error.code)
        if isinstance(decision, Retry):
            await self._give_back(run, error, delay_seconds=decision.after_seconds)
        elif decision.dead_letter:
            await self._give_back(run, error, delay_seconds=0.0)
        else:
            run.end(Status.FAILED, error)
            self.writer.flush(run)

    async def _abort(self, run: Attempt) -> None:
        """Have the engine let go of a run; one that hangs is not waited for."""
        try:
            async with asyncio.timeout(ABORT_SECONDS):
                await self._engine.abort(run.generation.id)
        except TimeoutError:
            run.log.warning("abort_timed_out")

    # --- giving back ------------------------------------------------------------------

    async def hand_over(self, run: Attempt) -> None:
        """Give a running job to another worker, mid-stream; no attempt is counted."""
        if run.stopping:
            return
        run.handing_over = True
        await self._abort(run)
        await self._give_back(run, None, counted=False)

    async def _give_back(
        self,
        run: Attempt,
        error: PipelineError | None,
        *,
        delay_seconds: float = 0.0,
        counted: bool = True,
    ) -> None:
        """Write what is pending, then requeue, so that the next attempt continues after it."""
        while run.pending and not run.over:
            run.settled.clear()
            self.writer.flush(run)
            await run.settled.wait()
        while not run.over:
            try:
                outcome = await self._store.requeue(
                    run.id, run.claimed.fence, error, delay_seconds=delay_seconds, counted=counted
                )
            except StoreUnavailable:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            run.log.info("job_given_back", outcome=outcome, counted=counted)
            if not run.over:
                again = "retried" if counted else "handed_over"
                self._release(run, again if outcome == Status.QUEUED else outcome)

    def _release(self, run: Attempt, outcome: str) -> None:
        """Let go of a run; `outcome` is a terminal status, retried, handed_over or lost."""
        self._telemetry.ended(run, outcome)
        error = run.error if outcome != Status.COMPLETED else ""
        write_attempt(run, self._queue, self._worker, outcome, error)
        run.over = True
        run.settled.set()
        self.writer.forget(run)
        self.runs.pop(run.id, None)
        self._by_generation.pop(run.generation.id, None)
        timer = self._timers.pop(run.id, None)
        if timer is not None:
            timer.cancel()
        run.ticket.done()
        if not self.runs:
            self._telemetry.idle()
            self._empty.set()
        self._room_changed()

    # --- stopping ---------------------------------------------------------------------

    async def drain(self, seconds: float) -> None:
        """Let short jobs end, then hand the rest over."""
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            pass
        else:
            return
        log.info("drain_hands_over", jobs=len(self.runs))
        await asyncio.gather(*(self.hand_over(run) for run in list(self.runs.values())))
        await self._empty.wait()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._spawned_ended)

    def _spawned_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._fatal(task.exception() or RuntimeError("task failed"))
