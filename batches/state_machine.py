"""Brings one batch from the status it has to its end, step by step.

Invariant: every step begins from what SQL says and can be repeated: a process that dies in the
middle of any leaves a batch that another goes on with. What is away is waited for.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from typing import Any

import structlog

from batches import repository
from batches.finalisation import end
from batches.line_check import LineError
from batches.line_submitter import LineSubmitter
from batches.owner import find_caller
from batches.result_parts import ResultParts
from batches.validation import Validation
from billing.errors import DatabaseUnavailable
from core.db.tables.base import now
from core.errors import ClientError, StoreUnavailable
from intake.services import Services
from jobs.store.transitions import Lock
from wire.errors import FilesUnavailable, ObjectMissing, StorageFull

log = structlog.get_logger()

AWAY = (DatabaseUnavailable, FilesUnavailable, StorageFull, StoreUnavailable)
LONGEST_PAUSE_SECONDS = 10.0
#: How soon a cancellation is seen.
LOOK_SECONDS = 1.0
FIRST_PAUSE_SECONDS = 0.1
#: How soon is looked again while results come in, as a part of `poll_seconds`.
BUSY = 0.1

NO_INPUT = LineError("input_file_missing", "input_file_id: the file's content is gone")
NO_PARTS = LineError("results_missing", "what had been written of the results is gone")


class BatchStateMachine:
    """One batch in the hands of this process."""

    def __init__(self, api: Services, row: Any, lock: Lock) -> None:
        self._api = api
        self._row = row
        self._lock = lock
        self._state = row
        self._feed: LineSubmitter | None = None
        self._parts: ResultParts | None = None
        self._pause = 0.0
        self._look_at = 0.0

    async def run(self) -> None:
        """Work until the batch has ended.

        Raises:
            Superseded: another process has the batch.
        """
        while True:
            try:
                if time.monotonic() >= self._look_at:
                    await self._look()
                if self._state.ended_at is not None:
                    break
                await self._step()
            except AWAY as error:
                self._pause = min(LONGEST_PAUSE_SECONDS, self._pause * 2 or FIRST_PAUSE_SECONDS)
                log.warning("batch_held_up", batch_id=self._row.id, missing=error.code)
                await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))
            else:
                self._pause = 0.0
        log.info("batch_ended", batch_id=self._row.id, status=self._state.status)

    async def _look(self) -> None:
        """See what is done, and whether a client has asked to cancel."""
        state = await repository.state_of(self._api.database, self._row.id)
        if state.fence != self._row.fence:
            raise repository.Superseded(self._row.id)
        self._state = state
        self._look_at = time.monotonic() + LOOK_SECONDS

    async def _step(self) -> None:
        match self._state.status:
            case repository.VALIDATING:
                await self._validate()
            case repository.IN_PROGRESS:
                await self._run()
            case repository.CANCELLING:
                await self._cancel()
            case repository.FINALIZING:
                await self._finish(self._state.outcome)

    async def _validate(self) -> None:
        try:
            caller = await find_caller(self._api, self._row.caller)
        except ClientError as error:
            await self._end(
                repository.FAILED, [LineError(error.code.replace("-", "_"), error.message)]
            )
            return
        validation = Validation(self._api, self._row.endpoint, caller)
        try:
            size = await repository.input_bytes(self._api.database, self._row.id)
            verdict = await validation.run(self._row.input_file_id, size)
        except ObjectMissing:
            await self._end(repository.FAILED, [NO_INPUT])
            return
        if verdict.complaints:
            counts = {"total": verdict.total, "model": verdict.model}
            await self._end(repository.FAILED, verdict.complaints, **counts)
            return
        await self._change(
            status=repository.IN_PROGRESS,
            in_progress_at=now(),
            total=verdict.total,
            model=verdict.model,
        )
        log.info("batch_validated", batch_id=self._row.id, requests=verdict.total)

    async def _cancel(self) -> None:
        if self._state.in_progress_at is None:
            await self._end(repository.CANCELLED)
        elif await self._fed():
            await self._finish(repository.CANCELLED)

    async def _run(self) -> None:
        if not await self._fed():
            return
        await self._look()  # a part may have said that the window ended first
        broken = self._feed is not None and self._feed.broken
        outcome = repository.FAILED if broken else self._state.outcome or repository.COMPLETED
        await self._change(status=repository.FINALIZING, finalizing_at=now(), outcome=outcome)

    async def _fed(self) -> bool:
        """Take one turn; whether every request has its result in a part."""
        feed = await self._open_feed()
        if self._state.status == repository.CANCELLING:
            feed.cancel()
        before = feed.settled
        if not await feed.turn():
            return True
        look = self._api.settings.batches.poll_seconds
        await asyncio.sleep(look * BUSY if feed.settled > before else look)
        return False

    async def _open_feed(self) -> LineSubmitter:
        if self._feed is None:
            size = await repository.input_bytes(self._api.database, self._row.id)
            parts = await repository.parts_of(self._api.database, self._row.id)
            self._parts = ResultParts(self._api, self._row, len(parts))
            self._feed = LineSubmitter(self._api, self._row, size, self._parts, self._lock)
        return self._feed

    async def _finish(self, status: str) -> None:
        complaints = [NO_INPUT] if status == repository.FAILED else []
        try:
            await self._end(status, complaints)
        except ObjectMissing:
            log.error("batch_parts_missing", batch_id=self._row.id)  # noqa: TRY400 - says it all
            await self._change(status=repository.FAILED, ended_at=now(), errors=_json(NO_PARTS))

    async def _end(
        self, status: str, complaints: Sequence[LineError] = (), /, **values: Any
    ) -> None:
        self._look_at = 0.0
        await end(self._api, self._state, status, complaints, **values)

    async def _change(self, **values: Any) -> None:
        self._look_at = 0.0
        async with self._api.database.write() as connection:
            await repository.change(
                connection, self._row.id, self._row.fence, self._state.status, **values
            )


def _json(complaint: LineError) -> str:
    return repository.complaints_json([complaint.as_dict()])
