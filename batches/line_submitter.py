"""Feeds the lines of one batch to the queue, a window at a time, and collects what becomes of them.

Invariant: before a request's job may exist, the batch's row says that it may (`reached`); whoever
takes over looks for it before submitting it again. A refusal that passes is waited out, one that
stays is the request's result.
"""

import asyncio
import random
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import structlog

from accounts.caller import Caller
from batches import ids, repository
from batches.line_check import BadLine, LineRequest, read_request
from batches.line_reader import LineReader, RequestLine
from batches.owner import find_caller
from batches.result_collection import PendingJob, collect
from batches.result_lines import CANCELLED, EXPIRED, LineOutcome, RequestRef, is_final
from batches.result_parts import ResultParts
from core.errors import (
    ClientError,
    InvalidJob,
    JobGone,
    JobNotFound,
    PipelineError,
    QueueFull,
    StoreUnavailable,
)
from files.errors import ObjectMissing
from files.repository import object_name
from intake.admission import Admission, AdmissionRequest, admit
from intake.preferences import NO_PREFERENCES
from intake.response_chat import as_chat
from intake.services import Services
from jobs.store.transitions import Lock
from wire.schemas.responses import ResponseRequest

log = structlog.get_logger()

#: Requests are submitted so many at a time, in one round trip.
AT_ONCE = 64
#: The bodies of one batch's window; lines can be large.
WINDOW_BYTES = 8_000_000
LONGEST_PAUSE_SECONDS = 30.0
NO_BUDGET_SECONDS = 10.0
#: What runs at the end of the completion window has so long to notice its deadline.
EXPIRY_SECONDS = 30.0


class LineSubmitter:
    """One batch on its way through the queue, in the hands of one process."""

    def __init__(self, api: Services, row: Any, size: int, parts: ResultParts, lock: Lock) -> None:
        self._api = api
        self._row = row
        self._lock = lock
        self._expires: float = row.expires_at.timestamp()
        self._longest = api.settings.limits.body_bytes
        name = object_name(row.input_file_id)
        self._reader = LineReader(api.object_store, name, size, self._longest)
        self._parts = parts
        self._lines: deque[RequestLine] = deque()
        self._read = False
        self._window: dict[str, PendingJob] = {}
        self._window_bytes = 0
        self._reached: int = row.reached
        self._reached_before: int = row.reached
        self._not_before = 0.0
        self._queue_full = False
        self._cancelled_at: float | None = None
        self._told: set[str] = set()
        self.broken = False

    def cancel(self) -> None:
        """Stop: a client has asked for it."""
        self._cancelled_at = self._cancelled_at or time.time()

    @property
    def settled(self) -> int:
        """How many requests have their result, by this process."""
        return self._parts.added

    @property
    def expired(self) -> bool:
        """Whether the completion window is over."""
        return time.time() >= self._expires

    @property
    def _why(self) -> tuple[str, str] | None:
        """Why the batch is being stopped, if it is."""
        if self._cancelled_at is not None:
            return CANCELLED
        return EXPIRED if self.expired else None

    @property
    def _patience_over(self) -> bool:
        limits = self._api.settings.batches
        if self._cancelled_at is not None:
            return time.time() >= self._cancelled_at + limits.cancel_seconds
        return time.time() >= self._expires + EXPIRY_SECONDS

    async def turn(self) -> bool:
        """Do what can be done now; False when every request has its result in a part.

        Raises:
            StoreUnavailable, DatabaseUnavailable, FilesUnavailable, StorageFull: come back later.
            Superseded: another process has the batch.
        """
        why = self._why
        if why is not None:
            await self._stop_open()
        await self._fill(why)
        await self._collect(why)
        finished = self._read and not self._lines and not self._window
        if finished or self._parts.due:
            await self._parts.flush()
        return not finished

    # --- into the queue -----------------------------------------------------------------

    async def _fill(self, why: tuple[str, str] | None) -> None:
        """Submit until the window is full, the queue is, or no line is left."""
        while self._has_room() and not self._parts.full:
            if not self._lines and not await self._read_more():
                return
            if why is None and time.monotonic() < self._not_before:
                return
            room = self._api.settings.batches.window - len(self._window)
            count = min(AT_ONCE, room, len(self._lines))
            group = [self._lines[number] for number in range(count)]
            refused = await self._take(group, why)
            for _ in group:
                self._lines.popleft()
            self._lines.extendleft(reversed(refused))

    def _has_room(self) -> bool:
        limits = self._api.settings.batches
        return len(self._window) < limits.window and self._window_bytes < WINDOW_BYTES

    async def _read_more(self) -> bool:
        """Read on; False after the last line."""
        while not self._lines and not self._read:
            try:
                lines = await self._reader.next()
            except ObjectMissing:
                self.broken, lines = True, None
            if lines is None:
                self._read = True
            else:
                self._lines.extend(line for line in lines if line.index not in self._parts)
        return bool(self._lines)

    async def _take(
        self, group: Sequence[RequestLine], why: tuple[str, str] | None
    ) -> list[RequestLine]:
        """Put lines into the window; returns those that were refused for now."""
        readable: list[tuple[RequestLine, PendingJob, LineRequest]] = []
        for line in group:
            if line.index in self._parts:
                continue
            try:
                request = read_request(line.raw, self._row.endpoint, self._longest)
            except BadLine as error:
                refusal = InvalidJob(error.message, param=error.param)
                self._parts.add([self._place(line, "").refused(refusal)])
            else:
                place = self._place(line, request.custom_id)
                job_id = ids.job_id(self._row.id, line.index)
                readable.append((line, PendingJob(place, job_id, line.raw or b""), request))
        maybe = [one for one in readable if one[0].index < self._reached_before]
        for _, pending, _ in maybe:
            self._wait_for(pending)
        fresh = [one for one in readable if one[0].index >= self._reached_before]
        if why is not None:
            self._parts.add(pending.place.undone(why) for _, pending, _ in fresh)
            return []
        if fresh:
            await self._reach(fresh[-1][0].index)
        answers = await self._submit([(pending, request) for _, pending, request in fresh])
        return [one[0] for one, stays in zip(fresh, answers, strict=True) if not stays]

    def _place(self, line: RequestLine, custom_id: str) -> RequestRef:
        return RequestRef(line.index, custom_id, ids.request_id(self._row.id, line.index))

    async def _reach(self, index: int) -> None:
        """Write down that jobs up to this request, and a window more, may exist."""
        if index < self._reached:
            return
        reached = index + 1 + self._api.settings.batches.window
        async with self._api.database.write() as connection:
            await repository.reach(connection, self._row.id, self._row.fence, reached)
        self._reached = reached

    async def _submit(self, requests: Sequence[tuple[PendingJob, LineRequest]]) -> list[bool]:
        """Submit requests together; returns which of them are waited for, or have their result."""
        answers = await self._ask_all(requests)
        for (pending, _), answer in zip(requests, answers, strict=True):
            if isinstance(answer, Admission):
                self._wait_for(pending)
            elif not isinstance(answer, PipelineError):
                raise answer
            elif is_final(answer):
                self._refuse(pending, answer)
            else:
                self._back_off(answer)
                if isinstance(answer, StoreUnavailable):
                    self._wait_for(pending)  # its job may exist: looked for before anything else
        return [one.job_id in self._window or one.place.index in self._parts for one, _ in requests]

    async def _ask_all(
        self, requests: Sequence[tuple[PendingJob, LineRequest]]
    ) -> Sequence[Admission | BaseException]:
        """Ask for jobs as who made the batch, for as long as it may: limits may have changed."""
        if not requests:
            return []
        try:
            key = await find_caller(self._api, self._row.caller)
        except ClientError as error:
            return [error] * len(requests)
        asked = [self._ask(key, *one) for one in requests]
        return await asyncio.gather(*asked, return_exceptions=True)

    async def _ask(self, key: Caller, pending: PendingJob, request: LineRequest) -> Admission:
        body, kept = request.body, None
        if isinstance(request.checked, ResponseRequest):
            body, kept = await as_chat(self._api, key.account, request.checked)
        wish = AdmissionRequest(
            url=self._row.endpoint,
            body=body,
            checked=request.checked,
            request_id=pending.place.request_id,
            preferences=NO_PREFERENCES,
            on_disconnect="continue",
            service_tier="flex",
            deadline=int(self._expires * 1000),
            response=kept,
            id=pending.job_id,
            quiet=True,  # the batch is told of, not each of its 50,000 requests
            lock=self._lock,
        )
        return await admit(self._api, key, wish)

    def _wait_for(self, pending: PendingJob) -> None:
        if pending.job_id not in self._window:
            self._window[pending.job_id] = pending
            self._window_bytes += len(pending.raw)

    def _refuse(self, pending: PendingJob, error: PipelineError) -> None:
        late = self.expired or error.param == "deadline"
        place = pending.place
        self._parts.add([place.undone(EXPIRED) if late else place.refused(error)])

    def _back_off(self, error: PipelineError) -> None:
        seconds = getattr(error, "retry_after_seconds", NO_BUDGET_SECONDS)
        pause = min(LONGEST_PAUSE_SECONDS, seconds) * random.uniform(0.5, 1.0)
        if time.monotonic() >= self._not_before:
            log.info("batch_waits", batch_id=self._row.id, code=error.code, seconds=pause)
        self._not_before = max(self._not_before, time.monotonic() + pause)
        self._queue_full = isinstance(error, QueueFull)

    # --- and out of it ------------------------------------------------------------------

    async def _collect(self, why: tuple[str, str] | None) -> None:
        if not self._window:
            return
        unknown: list[PendingJob] = []
        async for found in collect(self._api, self._row.account_id, self._window, why):
            unknown += found.unknown
            self._settle(found.outcomes)
            if self._parts.full:
                await self._parts.flush()
        if why is None:
            await self._submit_again(unknown)
            return
        self._settle([pending.place.undone(why) for pending in unknown])
        if self._patience_over:
            rest = list(self._window.values())
            self._settle([pending.place.undone(why) for pending in rest])

    async def _submit_again(self, unknown: Sequence[PendingJob]) -> None:
        """Submit what Redis and SQL know nothing of, and cannot have run."""
        for start in range(0, len(unknown), AT_ONCE):
            if time.monotonic() < self._not_before:
                return
            group = unknown[start : start + AT_ONCE]
            requests = [
                (one, read_request(one.raw, self._row.endpoint, self._longest)) for one in group
            ]
            await self._submit(requests)
            for pending in group:
                if pending.place.index in self._parts:
                    self._leave(pending.job_id)  # the others are looked for, and tried, again

    def _settle(self, outcomes: Sequence[LineOutcome]) -> None:
        self._parts.add(outcomes)
        if outcomes and self._queue_full:
            self._queue_full, self._not_before = False, 0.0  # there is room again
        for outcome in outcomes:
            self._leave(ids.job_id(self._row.id, outcome.index))

    def _leave(self, job_id: str) -> None:
        pending = self._window.pop(job_id, None)
        if pending is not None:
            self._window_bytes -= len(pending.raw)

    async def _stop_open(self) -> None:
        """Cancel every open job, once."""
        new = [job_id for job_id in self._window if job_id not in self._told]
        for start in range(0, len(new), AT_ONCE):
            group = new[start : start + AT_ONCE]
            await asyncio.gather(*(self._stop(job_id) for job_id in group))
            self._told.update(group)

    async def _stop(self, job_id: str) -> None:
        try:
            await self._api.store.cancel(job_id, self._row.account_id)
        except (JobNotFound, JobGone):
            log.debug("batch_job_not_there", job_id=job_id)
