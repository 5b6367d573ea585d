"""Controllers decide the fleet's size over time: KEDA with its HPA, or a timetable.

Invariant: `next` only moves forward, and lies after the last decision.
"""

import random
from collections.abc import Sequence
from math import inf
from typing import Protocol

from planning.autoscaler import Hpa, Keda
from planning.policy import Policy


class Controller(Protocol):
    """Decides the fleet's size.

    Attributes:
        initial: Workers that serve at the start.
        next: When to call `decide` next, in seconds since the start.
    """

    initial: int
    next: float

    def decide(self, now: float, replicas: int, queued: int, running: int) -> int:
        """Return the wanted number of workers and set `next`.

        Args:
            now: Seconds since the start.
            replicas: The present number of workers, starting ones included.
            queued: Jobs that wait.
            running: Jobs that run.
        """
        ...


class KedaController:
    """KEDA and its HPA, each with its own period; the seed sets their phases."""

    def __init__(self, policy: Policy, slots: int, seed: int) -> None:
        phases = random.Random(seed)
        self._policy = policy
        self._keda = Keda(policy)
        self._hpa = Hpa(policy, slots)
        self._poll_at = phases.uniform(0, policy.polling_seconds)
        self._sync_at = phases.uniform(0, policy.sync_seconds)
        self.initial = policy.min_replicas
        self.next = min(self._poll_at, self._sync_at)

    def decide(self, now: float, replicas: int, queued: int, running: int) -> int:
        """Apply KEDA, the HPA or both, whichever is due."""
        metric = queued + (running if self._policy.metric == "queued+running" else 0)
        wanted = replicas
        if now >= self._poll_at:
            wanted = self._keda.poll(now, wanted, metric)
            self._poll_at += self._policy.polling_seconds
        if now >= self._sync_at:
            if wanted:  # an HPA does nothing while there are no workers
                wanted = self._hpa.sync(now, wanted, metric)
            self._sync_at += self._policy.sync_seconds
        self.next = min(self._poll_at, self._sync_at)
        return wanted


class Timetable:
    """Sizes that are known in advance: `sizes[i]` from `i * interval` seconds on.

    One entry is a fixed fleet. Workers are requested `lead` seconds before they are needed.
    """

    def __init__(self, sizes: Sequence[int], interval: float = inf, lead: float = 0.0) -> None:
        self._sizes = sizes
        self._interval = interval
        self._lead = lead
        self._asked = [(max(0.0, i * interval - lead), i) for i in range(1, len(sizes))]
        self._asked += [(i * interval, i) for i in range(1, len(sizes))]
        self._asked.sort(reverse=True)
        self.initial = sizes[0]
        self.next = self._asked[-1][0] if self._asked else inf

    def decide(self, now: float, replicas: int, queued: int, running: int) -> int:
        """Return the largest size between `now` and `now + lead`."""
        del replicas, queued, running
        while self._asked and self._asked[-1][0] <= now:
            self._asked.pop()
        self.next = self._asked[-1][0] if self._asked else inf
        last = len(self._sizes) - 1
        if not last:
            return self._sizes[0]
        tight = 1e-6  # i * interval / interval may fall short of i
        first = min(last, int((now + tight) / self._interval))
        until = min(last, int((now + self._lead + tight) / self._interval))
        return max(self._sizes[first : until + 1])
