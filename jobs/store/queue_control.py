"""Pauses, drains, opens and purges whole queues, for operators.

Paused: no job is claimed, jobs are still accepted. Draining: no job is accepted, accepted jobs
run. Invariant: a purge blocks Redis for no longer than one slice takes, ends each job like any
cancelled one, and leaves jobs alone that are submitted after it began.
"""

from enum import StrEnum
from time import monotonic
from typing import NamedTuple

from core.errors import ModelNotFound
from core.redis.scripts import Scripts
from jobs.store.script_args import CancelWaitingArgs, QueueArgs, RetentionArgs, SetModeArgs
from jobs.store.script_rows import ModeRow, WaitingSliceRow

#: Jobs cancelled by one script call: a few milliseconds.
SLICE = 50

#: The longest purge; after that it must be requested again.
PURGE_SECONDS = 20.0


class QueueMode(StrEnum):
    """What a queue does."""

    OPEN = "open"
    PAUSED = "paused"
    DRAINING = "draining"


class ModeNote(NamedTuple):
    """A queue's mode and who set it; `since` in Unix ms, 0 if it was never changed."""

    mode: QueueMode
    by: str
    since: int


class PurgedJobs(NamedTuple):
    """How many jobs a purge cancelled; `complete` when none is left that waited when it began."""

    cancelled: int
    complete: bool


class QueueControl:
    """The scripts around whole queues."""

    def __init__(self, scripts: Scripts, retention: RetentionArgs) -> None:
        self._scripts = scripts
        self._retention = retention

    async def check_known(self, queue: str) -> None:
        """Refuse the queue of an unknown model.

        Raises:
            ModelNotFound: No such model is known.
        """
        if not (await self._read(queue)).known:
            raise _unknown(queue)

    async def mode(self, queue: str) -> ModeNote:
        """Return a queue's mode; an unknown queue is open."""
        row = await self._read(queue)
        return ModeNote(QueueMode(row.mode.decode()), row.set_by.decode(), int(row.since))

    async def _read(self, queue: str) -> ModeRow:
        return ModeRow(*await self._scripts.call("mode", *QueueArgs(queue)))

    async def set_mode(self, queue: str, mode: QueueMode, by: str) -> QueueMode:
        """Set a queue's mode and tell its workers.

        Args:
            queue: The queue of a known model.
            mode: Its new mode.
            by: Who sets it, shown to operators.

        Returns:
            The mode before.

        Raises:
            ModelNotFound: No such model is known.
        """
        before = await self._scripts.call("set_mode", *SetModeArgs(queue, mode, by))
        if before is None:
            raise _unknown(queue)
        return QueueMode(before.decode())

    async def purge(self, queue: str, seconds: float = PURGE_SECONDS) -> PurgedJobs:
        """Cancel every job that waits now, for at most `seconds`. May be repeated."""
        give_up, began, cancelled = monotonic() + seconds, "", 0
        while True:
            parked = sorted(owner.decode() for owner in (await self._read(queue)).parked)
            found = 0
            for place in ("ready", "delayed", "apart", *(f"parked:{owner}" for owner in parked)):
                first = 0
                while True:
                    named = CancelWaitingArgs(queue, place, first, SLICE, began)
                    answer = await self._scripts.call("cancel_waiting", *named, *self._retention)
                    row = WaitingSliceRow(*answer)
                    began, first = began or row.now.decode(), first + row.left_waiting
                    found += row.cancelled
                    if row.looked_at < SLICE:
                        break
                    if monotonic() > give_up:
                        return PurgedJobs(cancelled + found, complete=False)
            cancelled += found
            # Jobs may move from one place to another meanwhile, so only an empty round is the end.
            if not found:
                return PurgedJobs(cancelled, complete=True)


def _unknown(queue: str) -> ModelNotFound:
    return ModelNotFound(f"queue {queue!r} not found", param="model")
