"""The runner: the only place that decides what happens to a claimed job.

Claim -> add to the engine -> events to the step writer -> end, retry, hand-over or loss.
Invariant: every attempt leaves `attempts` exactly once, by `_release`, which acknowledges its
ticket. Before that, its end is written to Redis, or Redis answered that the lease is lost.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from random import Random

import structlog

from core.errors import (
    EngineDead,
    EngineError,
    InvalidJob,
    PipelineError,
)
from core.settings.tree import Settings
from jobs.blame import Apart, Blame, Occupancy
from jobs.retry import Retry, decide
from jobs.status import Status
from jobs.store.job_store import JobStore
from jobs.store.transitions import Appended, ClaimedJob
from workers.attempt import Attempt
from workers.attempt_span import write_attempt, write_wait
from workers.background_tasks import BackgroundTasks
from workers.batcher import Acknowledgeable
from workers.circuit_breaker import CircuitBreaker
from workers.engines.base import ENDPOINTS, Engine, Output
from workers.requeue import requeue
from workers.resume import resume_from_log
from workers.running_attempts import RunningAttempts
from workers.step_writer import StepWriter
from workers.worker_metrics import Telemetry

log = structlog.get_logger()

ABORT_SECONDS = 1.0


class Runner:
    """Runs every job that this worker has claimed, and is the engine's sink.

    Use it from the event loop's thread only.

    Attributes:
        attempts: The running attempts.
        last_step_at: When the engine last reported a step, in monotonic seconds.
        dying: The engine is dead; the worker must claim nothing and will exit.
        weights: The digest of the engine's weights; set before the first job.
        writer: The step writer; its `run` must be running.
    """

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
        """Create a runner without jobs.

        Args:
            store: The job store.
            engine: The engine that generates; started by the caller.
            breaker: Counts the engine's failures and successes.
            settings: The worker's settings.
            worker: The worker's id.
            room_changed: Called when a slot may have become free.
            fatal: Called with the error after which the worker must exit.
        """
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
        self._tasks = BackgroundTasks(fatal)
        self.dying = False
        self._adding = 0
        self._leftover_since: float | None = None
        self.attempts = RunningAttempts()
        self.weights = ""
        self.last_step_at = time.monotonic()
        self.writer = StepWriter(store, settings.stream, self._queue, self._on_append)

    def start(self, claimed: ClaimedJob, ticket: Acknowledgeable) -> None:
        """Begin an attempt at a claimed job; returns before the engine has accepted it.

        Args:
            claimed: The job with its lease, as the claim script returned it.
            ticket: Acknowledged when the attempt is released.
        """
        attempt = Attempt.begin(claimed, ticket, self.weights)
        self.attempts.add(attempt, self._on_deadline)
        self._telemetry.started(attempt)
        write_wait(attempt)
        attempt.log.info("attempt_started", attempt=claimed.attempt, fence=claimed.fence)
        self._tasks.spawn(self._add(attempt))

    async def _add(self, attempt: Attempt) -> None:
        try:
            if attempt.claimed.spec.url not in ENDPOINTS:
                text = f"URL {attempt.claimed.spec.url!r} is not supported by this worker"
                raise InvalidJob(text, param="url")
            if attempt.claimed.output_tokens:
                await resume_from_log(self._store, attempt)
            if self.dying:
                # Claimed while the engine died: it has nothing to do with that.
                await self.hand_over(attempt)
                return
            attempt.given_at = time.monotonic()
            self._adding += 1
            try:
                accepted = await self._engine.add(attempt.generation)
            finally:
                self._adding -= 1
        except PipelineError as error:
            if isinstance(error, EngineDead):
                self.dead(error)
            await self._fail(attempt, error)
            return
        if attempt.stopping:
            # Cancelled, timed out or lost while the prompt was rendered.
            await self._abort(attempt)
        if attempt.over:
            return
        attempt.accepted_at = time.monotonic()
        attempt.accept(accepted)
        self._telemetry.accepted(attempt)
        if attempt.failure is not None:
            await self._fail(attempt, attempt.failure)
        elif attempt.stopping or (attempt.stepped and attempt.pending):
            # A restart alone is not written: in the log, output is what clears a suspected job.
            self.writer.changed(attempt)

    def step(self, outputs: Sequence[Output]) -> None:
        """Take everything that one engine step produced; see `Sink.step`."""
        self.last_step_at = time.monotonic()
        self._telemetry.stepped(outputs, self.last_step_at)
        for output in outputs:
            attempt = self.attempts.of_generation(output.id)
            if attempt is None or attempt.stopping:
                continue
            attempt.stepped = True
            if attempt.first_token_at is None and output.token_ids:
                attempt.first_token_at = self.last_step_at
                self._telemetry.first_token(attempt)
            attempt.take(output)
            if attempt.failure is not None:
                self._tasks.spawn(self._fail(attempt, attempt.failure))
            elif attempt.accepted is not None:
                self.writer.changed(attempt)
        self._room_changed()

    def progress(self) -> None:
        """Note that the engine works although it made no step; see `Sink.progress`."""
        self.last_step_at = time.monotonic()

    def dead(self, error: BaseException) -> None:
        """Requeue every job, then end the worker; see `Sink.dead`."""
        if self.dying:
            return
        self.dying = True
        log.error("engine_dead", error=repr(error), jobs=len(self.attempts))
        outside = isinstance(error, EngineDead) and error.from_outside
        for attempt in self.attempts:
            if attempt.given_at is not None and not attempt.stopping:
                dead = EngineDead("the engine died", from_outside=outside)
                self._tasks.spawn(self._fail(attempt, dead))
        self._tasks.spawn(self._exit_when_empty(error))

    async def _exit_when_empty(self, error: BaseException) -> None:
        try:
            async with asyncio.timeout(self._settings.worker.drain_seconds + 1):
                await self.attempts.wait_until_empty()
        except TimeoutError:
            log.warning("engine_dead_jobs_left_to_their_leases", jobs=len(self.attempts))
        self._fatal(error)

    def _on_append(self, attempt: Attempt, answer: Appended) -> None:
        """Act on the append script's answer."""
        attempt.watched = answer == "watched"
        if answer == "finished":
            assert attempt.ending is not None
            self._finish(attempt, attempt.ending.status)
        elif answer == "lost":
            self.lose(attempt)
        elif answer == "cancel":
            attempt.watched = True
            self.cancel(attempt.id)

    def _finish(self, attempt: Attempt, status: Status) -> None:
        if status is Status.COMPLETED:
            self._breaker.record_success()
        attempt.log.info("job_ended", status=status, output_tokens=attempt.output_tokens)
        self._release(attempt, status)

    def cancel(self, job_id: str) -> None:
        """Stop a job that the client cancelled; it ends with the tokens it has.

        Args:
            job_id: The job; one that is not running here is ignored.
        """
        attempt = self.attempts.of_job(job_id)
        if attempt is None or attempt.stopping:
            return
        self._tasks.spawn(self._abort(attempt))
        attempt.end(Status.CANCELLED)
        self.writer.changed(attempt)

    def watched(self, job_id: str) -> None:
        """Write a job's events without long coalescing, because a client reads its stream.

        Args:
            job_id: The job; one that is not running here is ignored.
        """
        attempt = self.attempts.of_job(job_id)
        if attempt is not None:
            attempt.watched = True
            if attempt.pending:
                self.writer.flush(attempt)

    def lose(self, attempt: Attempt) -> None:
        """Stop an attempt whose lease is lost; another attempt owns the job, so nothing is written.

        Args:
            attempt: The attempt; one that was released already is ignored.
        """
        if attempt.over:
            return
        attempt.log.warning("lease_lost", fence=attempt.claimed.fence)
        self._tasks.spawn(self._abort(attempt))
        self._release(attempt, "lost")

    def _on_deadline(self, attempt: Attempt) -> None:
        if attempt.stopping:
            return
        self._tasks.spawn(self._abort(attempt))
        attempt.end_at_deadline(self._settings.limits.run_seconds)
        self.writer.changed(attempt)

    async def _fail(self, attempt: Attempt, error: PipelineError) -> None:
        """Retry later, or end the job: `jobs.retry.decide` says which."""
        if attempt.over or attempt.failing or attempt.ending is not None:
            return
        attempt.failing = True
        attempt.error = error.code
        if isinstance(error, EngineDead):
            # The stop of a worker counts as no attempt; the script decides what follows.
            blame = Blame.UNKNOWN if error.from_outside else Blame.ENGINE
            attempt.log.warning("attempt_failed", code=error.code, decision=blame)
            self._telemetry.failed(error.code)
            await self._requeue(attempt, error, counted=False, blame=blame)
            return
        blame, counted = Blame.NONE, True
        if isinstance(error, EngineError):
            # Among others it proves nothing, so the first one is not counted.
            alone = attempt.claimed.apart is not Apart.NONE
            blame, counted = Blame.ALONE, alone or attempt.claimed.attempt > 1
            self._breaker.record_failure(attempt.claimed.account, alone=alone)
            await self._abort(attempt)
        number = attempt.claimed.attempt if counted else 0
        remaining = attempt.seconds_left()
        decision = decide(error, number, self._settings.retry, remaining, self._random)
        kind = type(decision).__name__
        attempt.log.warning("attempt_failed", code=error.code, attempt=number, decision=kind)
        self._telemetry.failed(error.code)
        if isinstance(decision, Retry):
            delay = decision.after_seconds
            await self._requeue(attempt, error, delay_seconds=delay, counted=counted, blame=blame)
        elif decision.dead_letter:
            await self._requeue(attempt, error)
        else:
            attempt.end(Status.FAILED, error)
            self.writer.flush(attempt)

    async def _abort(self, attempt: Attempt) -> None:
        """Stop the generation in the engine; give up after ABORT_SECONDS."""
        try:
            async with asyncio.timeout(ABORT_SECONDS):
                await self._engine.abort(attempt.generation.id)
        except TimeoutError:
            attempt.log.warning("abort_timed_out")

    @property
    def occupancy(self) -> Occupancy:
        """What the worker runs, as far as it matters to a job that must run alone.

        A job that has ended may still be in the engine, which was not able to drop it yet.
        """
        if not self.attempts:
            return Occupancy.BUSY if self._left_over else Occupancy.EMPTY
        begun = self.attempts.all_begun and not self._adding
        return Occupancy.BEGUN if begun else Occupancy.BUSY

    @property
    def _left_over(self) -> bool:
        """Whether the engine works although no job runs."""
        load = self._engine.load()
        return not self.attempts and bool(self._adding or load.running or load.waiting)

    def seconds_silent(self) -> float:
        """Return for how many seconds the engine has owed a step; jobs may also wait for Redis."""
        now = time.monotonic()
        if not self._left_over:
            self._leftover_since = None
        elif self._leftover_since is None:
            self._leftover_since = now
        awaited = [attempt.awaited_since for attempt in self.attempts]
        since = [moment for moment in (*awaited, self._leftover_since) if moment is not None]
        return now - max(self.last_step_at, min(since)) if since else 0.0

    def make_way(self) -> None:
        """Hand every running job over, because another one must run alone here."""
        for attempt in self.attempts:
            if not attempt.stopping:
                self._tasks.spawn(self.hand_over(attempt))

    async def hand_over(self, attempt: Attempt) -> None:
        """Requeue a running job, so that another worker continues its stream.

        The attempt does not count towards the job's limit of attempts.

        Args:
            attempt: The attempt; one that is ending already is ignored.
        """
        if attempt.stopping:
            return
        attempt.handing_over = True
        await self._abort(attempt)
        await self._requeue(attempt, None, counted=False)

    async def _requeue(
        self,
        attempt: Attempt,
        error: PipelineError | None,
        *,
        delay_seconds: float = 0.0,
        counted: bool = True,
        blame: Blame = Blame.NONE,
    ) -> None:
        outcome = await requeue(
            self._store,
            self.writer,
            attempt,
            error,
            delay_seconds=delay_seconds,
            counted=counted,
            blame=blame,
        )
        if outcome == Status.QUEUED:
            outcome = "retried" if counted or blame else "handed_over"
        if outcome is not None:
            self._release(attempt, outcome)

    def _release(self, attempt: Attempt, outcome: str) -> None:
        """Forget an attempt; `outcome` is a terminal status, retried, handed_over or lost."""
        self._telemetry.ended(attempt, outcome)
        error = attempt.error if outcome != Status.COMPLETED else ""
        write_attempt(attempt, self._queue, self._worker, outcome, error)
        attempt.over = True
        attempt.flushed.set()
        self.writer.forget(attempt)
        self.attempts.remove(attempt)
        attempt.ticket.done()
        if not self.attempts:
            self._telemetry.idle()
        self._room_changed()

    async def drain(self, seconds: float) -> None:
        """Wait for running jobs to end, then hand the rest over; returns when none is left.

        Args:
            seconds: How long to wait before the hand-over.
        """
        try:
            async with asyncio.timeout(seconds):
                await self.attempts.wait_until_empty()
        except TimeoutError:
            pass
        else:
            return
        log.info("drain_hands_over", jobs=len(self.attempts))
        await asyncio.gather(*(self.hand_over(attempt) for attempt in self.attempts))
        await self.attempts.wait_until_empty()
