"""The workers of a model: starting, up, draining, gone; who is open for claims; what is paid for.

A worker is paid for from the moment it is asked for until it is gone: its GPU is held while the
model loads. Scaling down takes those that still start first, then the youngest, as a ReplicaSet
does. Invariant: no worker claims before it was up or after it was told to go.
"""

from collections import deque
from dataclasses import dataclass

from planning.engine import Worker
from planning.profile import EngineProfile


@dataclass(frozen=True, slots=True)
class FleetChange:
    """What a change of size set going: numbers that start, workers that drain."""

    starting: tuple[int, ...] = ()
    draining: tuple[Worker, ...] = ()


class Fleet:
    """All workers there are."""

    def __init__(self, profile: EngineProfile) -> None:
        self._profile = profile
        self._next_number = 0
        self._asked_at: dict[int, float] = {}  # of every worker that is paid for
        self._starting: list[int] = []
        self._serving: list[Worker] = []
        self._open: deque[Worker] = deque()
        self._paid = 0.0
        self._busy = 0.0
        self.starts = 0

    @property
    def replicas(self) -> int:
        """Workers wanted: those that start and those that serve."""
        return len(self._starting) + len(self._serving)

    @property
    def serving(self) -> int:
        """Workers that are up and claim."""
        return len(self._serving)

    def paid_seconds(self, now: float) -> float:
        """Return the seconds that all workers were paid for until `now`."""
        return self._paid + sum(now - asked for asked in self._asked_at.values())

    def busy_seconds(self) -> float:
        """Return the seconds in which engines made steps."""
        return self._busy + sum(worker.busy_seconds for worker in self._serving)

    def resize(self, replicas: int, now: float) -> FleetChange:
        """Ask for more workers, or let some go."""
        if replicas >= self.replicas:
            return FleetChange(
                starting=tuple(self._ask(now) for _ in range(replicas - self.replicas))
            )
        draining = []
        while self.replicas > replicas:
            if self._starting:
                self._pay(self._starting.pop(), now)
            else:
                worker = self._serving.pop()
                worker.draining = True
                draining.append(worker)
        return FleetChange(draining=tuple(draining))

    def come_up(self, number: int) -> Worker | None:
        """Make a worker that was asked for serve; None if it was let go meanwhile."""
        if number not in self._starting:
            return None
        self._starting.remove(number)
        worker = Worker(number, self._profile)
        self._serving.append(worker)
        self.offer(worker)
        return worker

    def leave(self, worker: Worker, now: float) -> None:
        """Forget a drained worker; nothing to do the second time."""
        if worker.number in self._asked_at:
            self._busy += worker.busy_seconds
            self._pay(worker.number, now)

    def offer(self, worker: Worker) -> None:
        """Let a worker that has room wait for jobs, behind those that wait already."""
        if not worker.listed and worker.room and not worker.draining:
            worker.listed = True
            self._open.append(worker)

    def take(self, at: float, together: float) -> Worker | None:
        """Return the worker that waits longest, which goes to the end of the line."""
        waiting = self._open
        while waiting:
            worker = waiting[0]
            if worker.takes(at, together):
                waiting.rotate(-1)
                return worker
            worker.listed = False
            waiting.popleft()
        return None

    def _ask(self, now: float) -> int:
        number = self._next_number
        self._next_number += 1
        self.starts += 1
        self._asked_at[number] = now
        self._starting.append(number)
        return number

    def _pay(self, number: int, now: float) -> None:
        self._paid += now - self._asked_at.pop(number)
