"""An operator's hand on a queue: pausing, draining, opening and purging it.

Paused: nothing is claimed, jobs are still accepted. Draining: no job is accepted, what is there
goes on. Invariant: a purge never keeps Redis for longer than a slice takes, ends each job like any
cancelled one, and leaves alone what is submitted after it began.
"""

from enum import StrEnum
from time import monotonic
from typing import NamedTuple

from core.errors import ModelNotFound
from core.redis.client import Scripts

#: Jobs cancelled by one script call: a few milliseconds.
SLICE = 50

#: Longest purge; then it is to be asked for again.
PURGE_SECONDS = 20.0


class QueueMode(StrEnum):
    """What a queue does."""

    OPEN = "open"
    PAUSED = "paused"
    DRAINING = "draining"


class ModeNote(NamedTuple):
    """What a queue does, and who had it do so; `since` in Unix ms, 0 if it was never changed."""

    mode: QueueMode
    by: str
    since: int


class PurgedJobs(NamedTuple):
    """How many jobs a purge cancelled; `complete` when none was left that waited as it began."""

    cancelled: int
    complete: bool


class QueueControl:
    """The scripts around whole queues."""

    def __init__(self, scripts: Scripts, keep: tuple[int | str, ...]) -> None:
        self._scripts = scripts
        self._keep = keep

    async def check_known(self, queue: str) -> None:
        """Refuse the queue of a model that is not known.

        Raises:
            ModelNotFound: naming it.
        """
        if not (await self._look(queue))[2]:
            raise _unknown(queue)

    async def mode(self, queue: str) -> ModeNote:
        """Return what a queue does."""
        return (await self._look(queue))[0]

    async def _look(self, queue: str) -> tuple[ModeNote, list[str], bool]:
        mode, by, since, parked, known = await self._scripts.call("mode", queue)
        note = ModeNote(QueueMode(mode.decode()), by.decode(), int(since))
        return note, sorted(who.decode() for who in parked), bool(known)

    async def set_mode(self, queue: str, mode: QueueMode, by: str) -> QueueMode:
        """Change what a queue does and tell its workers; returns what it did before.

        Raises:
            ModelNotFound: no such model is known.
        """
        before = await self._scripts.call("set_mode", queue, mode, by)
        if before is None:
            raise _unknown(queue)
        return QueueMode(before.decode())

    async def purge(self, queue: str, seconds: float = PURGE_SECONDS) -> PurgedJobs:
        """Cancel every job that waits now, for so long at most. May be repeated."""
        give_up, began, cancelled = monotonic() + seconds, "", 0
        while True:
            _, parked, _ = await self._look(queue)
            found = 0
            for place in ("ready", "delayed", *(f"parked:{who}" for who in parked)):
                first = 0
                while True:
                    looked, left, ended, now = await self._scripts.call(
                        "cancel_waiting", queue, place, first, SLICE, began, *self._keep
                    )
                    began, first, found = began or now.decode(), first + left, found + ended
                    if looked < SLICE:
                        break
                    if monotonic() > give_up:
                        return PurgedJobs(cancelled + found, complete=False)
            cancelled += found
            # Jobs move from one place to another meanwhile.
            if not found:
                return PurgedJobs(cancelled, complete=True)


def _unknown(queue: str) -> ModelNotFound:
    return ModelNotFound(f"no queue {queue!r} here", param="model")
