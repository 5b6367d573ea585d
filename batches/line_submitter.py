"""Submits the lines of one batch to the queue, a window at a time, and collects the results.

Invariant: before a request's job may exist, the batch's row says so (`reached`); a process that
takes over looks for the job before it submits the request again. After a temporary refusal the
request is submitted again; a final refusal is the request's result.
"""

import asyncio
import time
from collections import deque
from collections.abc import Sequence

import structlog

from batches import claims, ids
from batches.job_submission import JobSubmission
from batches.job_window import JobWindow, PendingJob
from batches.line_check import BadLine, LineRequest, read_request
from batches.line_reader import LineReader, RequestLine
from batches.records import ClaimedBatch
from batches.result_collection import collect_results
from batches.result_lines import (
    CANCELLED,
    EXPIRED,
    LineOutcome,
    NotRunReason,
    RequestRef,
    is_final,
)
from batches.result_parts import ResultParts
from batches.submission_pause import SubmissionPause
from batches.waiting_notice import WaitingNotice
from core.errors import (
    BudgetExceeded,
    InvalidJob,
    JobGone,
    JobNotFound,
    PipelineError,
    StoreUnavailable,
)
from files.errors import ObjectMissing
from files.repository import object_name
from intake.services import Services
from intake.submission import Admission
from jobs.store.transitions import Lock

log = structlog.get_logger()

#: How many requests are submitted, or jobs cancelled, in one round trip.
GROUP_SIZE = 64
#: How long a job that runs at the end of the completion window may take to notice its deadline.
EXPIRY_SECONDS = 30.0


class LineSubmitter:
    """Takes one batch through the queue; used by one process at a time."""

    def __init__(
        self, services: Services, batch: ClaimedBatch, size: int, parts: ResultParts, lock: Lock
    ) -> None:
        """Prepare to submit a batch's lines.

        Args:
            services: What the process shares.
            batch: The batch this process has claimed.
            size: The length of its input file in bytes.
            parts: Where results are written.
            lock: The lock that the process must hold when a job is accepted.
        """
        self._services = services
        self._batch = batch
        self._limits = services.settings.batches
        self._expires = batch.expires_at.timestamp()
        self._max_line_bytes = services.settings.limits.body_bytes
        name = object_name(batch.input_file_id)
        self._reader = LineReader(services.object_store, name, size, self._max_line_bytes)
        self._submission = JobSubmission(services, batch, lock)
        self._parts = parts
        self._lines: deque[RequestLine] = deque()
        self._all_read = False
        self._window = JobWindow(self._limits.window)
        self._pause = SubmissionPause()
        self._waiting = WaitingNotice(batch)
        self._reached = batch.reached
        self._cancelled_at: float | None = None
        self._cancel_sent: set[str] = set()
        self.input_missing = False

    def cancel(self) -> None:
        """Stop submitting and cancel the open jobs: a client has cancelled the batch."""
        self._cancelled_at = self._cancelled_at or time.time()

    @property
    def finished(self) -> int:
        """How many requests have got their result from this process."""
        return self._parts.added

    @property
    def _expired(self) -> bool:
        return time.time() >= self._expires

    @property
    def _stop_reason(self) -> NotRunReason | None:
        if self._cancelled_at is not None:
            return CANCELLED
        return EXPIRED if self._expired else None

    @property
    def _grace_is_over(self) -> bool:
        """Whether jobs that are still open count as not run."""
        if self._cancelled_at is not None:
            return time.time() >= self._cancelled_at + self._limits.cancel_seconds
        return time.time() >= self._expires + EXPIRY_SECONDS

    async def turn(self) -> bool:
        """Do what can be done now, without waiting for jobs.

        Returns:
            False once every request has its result in a part.

        Raises:
            StoreUnavailable, DatabaseUnavailable, FilesUnavailable, StorageFull: retry later.
            Superseded: another process has claimed the batch.
        """
        reason = self._stop_reason
        if reason is not None:
            await self._cancel_open_jobs()
        await self._fill_window(reason)
        await self._collect(reason)
        await self._waiting.tell(self._services.database)
        done = self._all_read and not self._lines and not self._window.jobs
        if done or self._parts.due:
            await self._parts.flush()
        return not done

    # --- submit -------------------------------------------------------------------------

    async def _fill_window(self, reason: NotRunReason | None) -> None:
        """Submit until the window is full, the batch must pause, or no line is left."""
        while self._window.has_room and not self._parts.full:
            if not self._lines and not await self._read_lines():
                return
            if reason is None and self._pause.active:
                return
            count = min(GROUP_SIZE, self._window.free, len(self._lines))
            group = [self._lines[number] for number in range(count)]
            refused = await self._start(group, reason)
            for _ in group:
                self._lines.popleft()
            self._lines.extendleft(reversed(refused))

    async def _read_lines(self) -> bool:
        """Read on until there are lines; False after the last one."""
        while not self._lines and not self._all_read:
            try:
                lines = await self._reader.next()
            except ObjectMissing:
                self.input_missing, lines = True, None
            if lines is None:
                self._all_read = True
            else:
                self._lines.extend(line for line in lines if line.index not in self._parts)
        return bool(self._lines)

    async def _start(
        self, group: Sequence[RequestLine], reason: NotRunReason | None
    ) -> list[RequestLine]:
        """Put requests into the window; returns the lines that were temporarily refused."""
        fresh: list[tuple[RequestLine, PendingJob, LineRequest]] = []
        for line in group:
            if line.index in self._parts:
                continue
            try:
                request = read_request(line.raw, self._batch.endpoint, self._max_line_bytes)
            except BadLine as error:
                refusal = InvalidJob(error.message, param=error.param)
                self._parts.add([self._ref(line, "").refused(refusal)])
                continue
            job_id = ids.job_id(self._batch.id, line.index)
            pending = PendingJob(self._ref(line, request.custom_id), job_id, line.raw or b"")
            if line.index < self._batch.reached:
                self._window.add(pending)  # its job may exist: look for it first
            else:
                fresh.append((line, pending, request))
        if reason is not None:
            self._parts.add(pending.ref.not_run(reason) for _, pending, _ in fresh)
            return []
        if fresh:
            await self._record_reached(fresh[-1][0].index)
        accepted = await self._submit([(pending, request) for _, pending, request in fresh])
        return [line for (line, _, _), done in zip(fresh, accepted, strict=True) if not done]

    def _ref(self, line: RequestLine, custom_id: str) -> RequestRef:
        return RequestRef(line.index, custom_id, ids.request_id(self._batch.id, line.index))

    async def _record_reached(self, index: int) -> None:
        """Record that jobs may exist up to this request and a window beyond."""
        if index < self._reached:
            return
        reached = index + 1 + self._limits.window
        async with self._services.database.write() as connection:
            await claims.record_reached(connection, self._batch.id, self._batch.fence, reached)
        self._reached = reached

    async def _submit(self, requests: Sequence[tuple[PendingJob, LineRequest]]) -> list[bool]:
        """Submit requests; returns for each whether it is in the window or has its result."""
        answers = await self._submission.submit(requests)
        if any(isinstance(answer, Admission) for answer in answers):
            self._waiting.accepted()
        for (pending, _), answer in zip(requests, answers, strict=True):
            if isinstance(answer, Admission):
                self._window.add(pending)
            elif not isinstance(answer, PipelineError):
                raise answer
            elif is_final(answer):
                self._refuse(pending.ref, answer)
            else:
                self._pause_after(answer)
                if isinstance(answer, BudgetExceeded):
                    self._waiting.refused(answer)
                if isinstance(answer, StoreUnavailable):
                    self._window.add(pending)  # its job may exist: look for it first
        return [
            pending.job_id in self._window or pending.ref.index in self._parts
            for pending, _ in requests
        ]

    def _refuse(self, ref: RequestRef, error: PipelineError) -> None:
        late = self._expired or error.param == "deadline"
        self._parts.add([ref.not_run(EXPIRED) if late else ref.refused(error)])

    def _pause_after(self, error: PipelineError) -> None:
        first = not self._pause.active
        seconds = self._pause.extend(error)
        if first:
            log.info("batch_waits", batch_id=self._batch.id, code=error.code, seconds=seconds)

    # --- collect ------------------------------------------------------------------------

    async def _collect(self, reason: NotRunReason | None) -> None:
        if not self._window.jobs:
            return
        unknown: list[PendingJob] = []
        found = collect_results(self._services, self._batch.account_id, self._window.jobs, reason)
        async for collected in found:
            unknown += collected.unknown
            self._finish(collected.outcomes)
            if self._parts.full:
                await self._parts.flush()
        if reason is None:
            await self._submit_again(unknown)
            return
        self._finish([pending.ref.not_run(reason) for pending in unknown])
        if self._grace_is_over:
            rest = list(self._window.jobs.values())
            self._finish([pending.ref.not_run(reason) for pending in rest])

    async def _submit_again(self, unknown: Sequence[PendingJob]) -> None:
        """Submit requests whose jobs neither Redis nor SQL knows: they cannot have run."""
        for start in range(0, len(unknown), GROUP_SIZE):
            if self._pause.active:
                return
            group = unknown[start : start + GROUP_SIZE]
            requests = [
                (pending, read_request(pending.raw, self._batch.endpoint, self._max_line_bytes))
                for pending in group
            ]
            await self._submit(requests)
            for pending in group:
                if pending.ref.index in self._parts:
                    self._window.remove(pending.job_id)  # the others stay and are looked for again

    def _finish(self, outcomes: Sequence[LineOutcome]) -> None:
        self._parts.add(outcomes)
        if outcomes:
            self._pause.job_ended()
        for outcome in outcomes:
            self._window.remove(ids.job_id(self._batch.id, outcome.index))

    async def _cancel_open_jobs(self) -> None:
        """Cancel every open job once."""
        new = [job_id for job_id in self._window.jobs if job_id not in self._cancel_sent]
        for start in range(0, len(new), GROUP_SIZE):
            group = new[start : start + GROUP_SIZE]
            await asyncio.gather(*(self._cancel_job(job_id) for job_id in group))
            self._cancel_sent.update(group)

    async def _cancel_job(self, job_id: str) -> None:
        try:
            await self._services.store.cancel(job_id, self._batch.account_id)
        except (JobNotFound, JobGone):
            log.debug("batch_job_not_found", job_id=job_id)
