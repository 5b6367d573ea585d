"""The fleet: which workers start, serve, drain or wait for jobs, and what is paid for them.

A worker is paid for from its request until it has gone, because its GPU is held while the model
loads. Scaling down removes starting workers first, then the youngest, like a ReplicaSet.
Invariant: no worker claims jobs before it serves or after its drain began.
"""

from collections import deque
from dataclasses import dataclass

from planning.profile import EngineProfile
from planning.worker_model import Worker


@dataclass(frozen=True, slots=True)
class FleetChange:
    """The result of a change of size: numbers of starting workers, and draining workers."""

    starting: tuple[int, ...] = ()
    draining: tuple[Worker, ...] = ()


class Fleet:
    """All workers of a model; times are in seconds since the start."""

    def __init__(self, profile: EngineProfile) -> None:
        self._profile = profile
        self._next_number = 0
        self._requested_at: dict[int, float] = {}  # by the number of each worker that is paid for
        self._starting: list[int] = []
        self._serving: list[Worker] = []
        self._open: deque[Worker] = deque()
        self._paid = 0.0
        self._busy = 0.0
        self.starts = 0

    @property
    def replicas(self) -> int:
        """How many workers are wanted: starting and serving ones."""
        return len(self._starting) + len(self._serving)

    @property
    def serving(self) -> int:
        """How many workers serve and claim jobs."""
        return len(self._serving)

    def paid_seconds(self, now: float) -> float:
        """Return the seconds that all workers were paid for until `now`."""
        return self._paid + sum(now - asked for asked in self._requested_at.values())

    def busy_seconds(self) -> float:
        """Return the seconds in which engines computed steps."""
        return self._busy + sum(worker.busy_seconds for worker in self._serving)

    def resize(self, replicas: int, now: float) -> FleetChange:
        """Start workers, or remove and drain some, until there are `replicas`."""
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
        """Let a started worker serve; return None if it was removed meanwhile."""
        if number not in self._starting:
            return None
        self._starting.remove(number)
        worker = Worker(number, self._profile)
        self._serving.append(worker)
        self.offer(worker)
        return worker

    def leave(self, worker: Worker, now: float) -> None:
        """Remove a drained worker; a second call does nothing."""
        if worker.number in self._requested_at:
            self._busy += worker.busy_seconds
            self._pay(worker.number, now)

    def offer(self, worker: Worker) -> None:
        """Add a worker with free slots to the end of the line of waiting workers."""
        if not worker.listed and worker.room and not worker.draining:
            worker.listed = True
            self._open.append(worker)

    def take(self, at: float, together: float) -> Worker | None:
        """Return the longest-waiting worker that would claim; it moves to the end of the line."""
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
        self._requested_at[number] = now
        self._starting.append(number)
        return number

    def _pay(self, number: int, now: float) -> None:
        self._paid += now - self._requested_at.pop(number)
