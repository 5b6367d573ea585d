"""Who decides about the fleet's size, and when: KEDA with its HPA, or a timetable.

Invariant: `next` only moves forward, and lies beyond each moment that was decided.
"""

import random
from collections.abc import Sequence
from math import inf
from typing import Protocol

from planning.autoscaler import Hpa, Keda
from planning.policy import Policy


class Controller(Protocol):
    """Decides at `next` how many workers there should be; `initial` are up at the start."""

    initial: int
    next: float

    def decide(self, now: float, replicas: int, queued: int, running: int) -> int:
        """Return the wanted size and move `next` on."""
        ...


class KedaController:
    """The operator and the HPA, each on its own clock; their phases come from the seed."""

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
        """Let whoever is due decide."""
        metric = queued + (running if self._policy.metric == "queued+running" else 0)
        wanted = replicas
        if now >= self._poll_at:
            wanted = self._keda.poll(now, wanted, metric)
            self._poll_at += self._policy.polling_seconds
        if now >= self._sync_at:
            if wanted:  # an HPA leaves a fleet of none alone
                wanted = self._hpa.sync(now, wanted, metric)
            self._sync_at += self._policy.sync_seconds
        self.next = min(self._poll_at, self._sync_at)
        return wanted


class Timetable:
    """Sizes known beforehand: `sizes[i]` from `i * interval` on. One entry is a fixed fleet."""

    def __init__(self, sizes: Sequence[int], interval: float = inf, lead: float = 0.0) -> None:
        self._sizes = sizes
        self._interval = interval
        self._lead = lead  # how much earlier a worker is asked for than it is wanted
        self._asked = [(max(0.0, i * interval - lead), i) for i in range(1, len(sizes))]
        self._asked += [(i * interval, i) for i in range(1, len(sizes))]
        self._asked.sort(reverse=True)
        self.initial = sizes[0]
        self.next = self._asked[-1][0] if self._asked else inf

    def decide(self, now: float, replicas: int, queued: int, running: int) -> int:
        """Return the largest size of now and of what begins within the lead."""
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
