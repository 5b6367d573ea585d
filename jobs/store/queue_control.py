"""Pauses, drains, closes, opens and purges whole queues, for operators.

Two switches make a queue's mode: whether it accepts jobs, and whether accepted jobs start.
Invariant: an action changes only its own switch, so draining a paused queue does not start it. A
purge blocks Redis for no longer than one slice takes, ends each job like any
cancelled one, and leaves jobs alone that are submitted after it began.
"""

from enum import StrEnum
from time import monotonic
from typing import NamedTuple

import orjson

from core.errors import ModelNotFound, PipelineError
from core.redis.scripts import Scripts
from jobs.store.script_args import EndWaitingArgs, QueueArgs, RetentionArgs, SetModeArgs
from jobs.store.script_rows import ModeChangeRow, ModeRow, WaitingSliceRow

#: Jobs cancelled by one script call: a few milliseconds.
SLICE = 50

#: The longest purge; after that it must be requested again.
PURGE_SECONDS = 20.0


class QueueMode(StrEnum):
    """What a queue does; running jobs always continue."""

    OPEN = "open"
    PAUSED = "paused"
    DRAINING = "draining"
    CLOSED = "closed"

    @property
    def accepts(self) -> bool:
        """Whether new jobs are accepted."""
        return self in (QueueMode.OPEN, QueueMode.PAUSED)

    @property
    def runs(self) -> bool:
        """Whether accepted jobs are started."""
        return self in (QueueMode.OPEN, QueueMode.DRAINING)


class ModeChange(NamedTuple):
    """What an action does to a queue's two switches; None leaves one as it is."""

    accepts: bool | None = None
    runs: bool | None = None

    @classmethod
    def to(cls, mode: QueueMode) -> "ModeChange":
        """Return the change that leads to this mode from every other."""
        return cls(mode.accepts, mode.runs)

    def applied(self, mode: QueueMode) -> QueueMode:
        """Return the mode that follows this one; `scripts/set_mode.lua` does the same."""
        accepts = mode.accepts if self.accepts is None else self.accepts
        runs = mode.runs if self.runs is None else self.runs
        return next(other for other in QueueMode if (other.accepts, other.runs) == (accepts, runs))


#: The operator's actions, by their names in routes and commands.
PAUSE, DRAIN = ModeChange(runs=False), ModeChange(accepts=False)
CLOSE, RESUME = ModeChange.to(QueueMode.CLOSED), ModeChange.to(QueueMode.OPEN)


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

    async def change_mode(
        self, queue: str, change: ModeChange, by: str
    ) -> tuple[QueueMode, QueueMode]:
        """Change a queue's mode and tell its workers.

        Args:
            queue: The queue of a known model.
            change: What changes; the rest of the mode stays.
            by: Who changes it, shown to operators.

        Returns:
            The mode before and the mode now.

        Raises:
            ModelNotFound: No such model is known.
        """
        named = SetModeArgs(queue, _switch(change.accepts), _switch(change.runs), by)
        answer = await self._scripts.call("set_mode", *named)
        if answer is None:
            raise _unknown(queue)
        row = ModeChangeRow(*answer)
        return QueueMode(row.before.decode()), QueueMode(row.now.decode())

    async def purge(
        self, queue: str, seconds: float = PURGE_SECONDS, error: PipelineError | None = None
    ) -> PurgedJobs:
        """Cancel every job that waits now. May be repeated.

        Args:
            queue: The queue.
            seconds: The longest purge.
            error: With an error the jobs fail with it and become dead letters.
        """
        error_json = orjson.dumps(error.as_dict()) if error else b""
        give_up, began, cancelled = monotonic() + seconds, "", 0
        while True:
            parked = sorted(owner.decode() for owner in (await self._read(queue)).parked)
            found = 0
            for place in ("ready", "delayed", "apart", *(f"parked:{owner}" for owner in parked)):
                first = 0
                while True:
                    named = EndWaitingArgs(queue, place, first, SLICE, began, error_json)
                    answer = await self._scripts.call("end_waiting", *named, *self._retention)
                    row = WaitingSliceRow(*answer)
                    began, first = began or row.now.decode(), first + row.left_waiting
                    found += row.ended
                    if row.looked_at < SLICE:
                        break
                    if monotonic() > give_up:
                        return PurgedJobs(cancelled + found, complete=False)
            cancelled += found
            # Jobs may move from one place to another meanwhile, so only an empty round is the end.
            if not found:
                return PurgedJobs(cancelled, complete=True)


def _switch(value: bool | None) -> str:
    return "" if value is None else str(int(value))


def _unknown(queue: str) -> ModelNotFound:
    return ModelNotFound(f"queue {queue!r} not found", param="model")
