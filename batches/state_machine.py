"""Takes one batch from its current status to its end, step by step.

Invariant: each step starts from what SQL says and can be repeated, so that another process can
continue a batch whose process died in the middle of a step. During an outage
the step waits and tries again.
"""

import asyncio
import time
from collections.abc import Sequence
from random import Random
from typing import Any

import structlog

from batches import claims, records
from batches.claims import Superseded
from batches.finalisation import end_batch, errors_json
from batches.line_check import LineError
from batches.line_submitter import LineSubmitter
from batches.owner import find_owner
from batches.records import BatchState, ClaimedBatch
from batches.result_parts import ResultParts
from batches.validation import Validation
from core.backoff import Backoff
from core.db.tables.base import now
from core.errors import ClientError, DatabaseUnavailable, StoreUnavailable
from files.errors import FilesUnavailable, ObjectMissing, StorageFull
from intake.services import Services
from jobs.store.transitions import Lock

log = structlog.get_logger()

#: Errors of an outage that is waited for.
OUTAGES = (DatabaseUnavailable, FilesUnavailable, StorageFull, StoreUnavailable)
BACKOFF = Backoff(base_seconds=0.1, cap_seconds=10.0)
#: How often the status is read, and so how soon a cancellation is seen.
STATE_SECONDS = 1.0
#: How long to wait between two turns while results come in, as a share of `look_seconds`.
BUSY_SHARE = 0.1

INPUT_MISSING = LineError(
    "input_file_missing", "input_file_id: the file's content no longer exists"
)
RESULTS_MISSING = LineError("results_missing", "Results that were written no longer exist")


class BatchStateMachine:
    """Runs one batch that this process has claimed.

    `validating` leads to `in_progress` or `failed`; `in_progress` to `finalizing`; `finalizing` to
    `completed`, `expired` or `failed`. A client may move the first two to `cancelling`, which
    leads to `cancelled`.
    """

    def __init__(self, services: Services, batch: ClaimedBatch, lock: Lock) -> None:
        """Prepare to run a batch.

        Args:
            services: What the process shares.
            batch: The batch as this process has claimed it.
            lock: The lock in Redis that the process holds while it works on the batch.
        """
        self._services = services
        self._batch = batch
        self._lock = lock
        self._state: BatchState = batch
        self._submitter: LineSubmitter | None = None
        self._failures = 0
        self._random = Random()
        self._read_state_at = 0.0

    async def run(self) -> None:
        """Work until the batch has ended; waits while SQL, Redis or the object store is down.

        Raises:
            Superseded: another process has claimed the batch.
        """
        while True:
            try:
                if time.monotonic() >= self._read_state_at:
                    await self._read_state()
                if self._state.ended_at is not None:
                    break
                await self._step()
            except OUTAGES as error:
                self._failures += 1
                log.warning("batch_held_up", batch_id=self._batch.id, missing=error.code)
                await asyncio.sleep(BACKOFF.delay(self._failures, self._random))
            else:
                self._failures = 0
        log.info("batch_ended", batch_id=self._batch.id, status=self._state.status)

    async def _read_state(self) -> None:
        """Read the batch's counts, and whether a client has asked to cancel it."""
        state = await claims.read_state(self._services.database, self._batch.id)
        if state.fence != self._batch.fence:
            raise Superseded(self._batch.id)
        self._state = state
        self._read_state_at = time.monotonic() + STATE_SECONDS

    async def _step(self) -> None:
        match self._state.status:
            case records.VALIDATING:
                await self._validate()
            case records.IN_PROGRESS:
                await self._run_requests()
            case records.CANCELLING:
                await self._cancel()
            case records.FINALIZING:
                await self._finalize(self._state.outcome or records.COMPLETED)

    async def _validate(self) -> None:
        try:
            owner = await find_owner(self._services, self._batch.owner)
        except ClientError as error:
            code = error.code.replace("-", "_")
            await self._end(records.FAILED, [LineError(code, error.message)])
            return
        validation = Validation(self._services, self._batch.endpoint, owner)
        try:
            size = await claims.input_bytes(self._services.database, self._batch.id)
            verdict = await validation.run(self._batch.input_file_id, size)
        except ObjectMissing:
            await self._end(records.FAILED, [INPUT_MISSING])
            return
        counts = {"total": verdict.total, "model": verdict.model}
        if verdict.errors:
            await self._end(records.FAILED, verdict.errors, **counts)
            return
        await self._change(status=records.IN_PROGRESS, in_progress_at=now(), **counts)
        log.info("batch_validated", batch_id=self._batch.id, requests=verdict.total)

    async def _cancel(self) -> None:
        if self._state.in_progress_at is None:
            await self._end(records.CANCELLED)
        elif await self._take_turn():
            await self._finalize(records.CANCELLED)

    async def _run_requests(self) -> None:
        if not await self._take_turn():
            return
        await self._read_state()  # a part may have recorded that the window has ended
        missing = self._submitter is not None and self._submitter.input_missing
        outcome = records.FAILED if missing else self._state.outcome or records.COMPLETED
        await self._change(status=records.FINALIZING, finalizing_at=now(), outcome=outcome)

    async def _take_turn(self) -> bool:
        """Take one turn; returns whether every request has its result in a part."""
        submitter = await self._open_submitter()
        if self._state.status == records.CANCELLING:
            submitter.cancel()
        before = submitter.finished
        if not await submitter.turn():
            return True
        seconds = self._services.settings.batches.poll_seconds
        await asyncio.sleep(seconds * BUSY_SHARE if submitter.finished > before else seconds)
        return False

    async def _open_submitter(self) -> LineSubmitter:
        if self._submitter is None:
            size = await claims.input_bytes(self._services.database, self._batch.id)
            written = await claims.list_parts(self._services.database, self._batch.id)
            parts = ResultParts(self._services, self._batch, len(written))
            self._submitter = LineSubmitter(self._services, self._batch, size, parts, self._lock)
        return self._submitter

    async def _finalize(self, status: str) -> None:
        errors = [INPUT_MISSING] if status == records.FAILED else []
        try:
            await self._end(status, errors)
        except ObjectMissing:
            log.error("batch_parts_missing", batch_id=self._batch.id)  # noqa: TRY400 - the trace would not help
            missing = errors_json([RESULTS_MISSING])
            await self._change(status=records.FAILED, ended_at=now(), errors=missing)

    async def _end(self, status: str, errors: Sequence[LineError] = (), /, **values: Any) -> None:
        self._read_state_at = 0.0
        await end_batch(self._services, self._state, status, errors, **values)

    async def _change(self, **values: Any) -> None:
        self._read_state_at = 0.0
        async with self._services.database.write() as connection:
            await claims.change_batch(
                connection, self._batch.id, self._batch.fence, self._state.status, **values
            )
