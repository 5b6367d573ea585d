"""The ready set: the order of waiting jobs, computed like `submit.lua` and `claim.lua` do.

Start-time fair queueing per tier and ageing across tiers (see `jobs/fairness.py`). Caps per
account and time limits, which the scripts also handle, are left out because no plan needs them.
Invariant: the same submits and claims give the same order as the scripts
(`tests/integration/planning/test_claim_order.py` compares them on a real server).
"""

from heapq import heappop, heappush

from core.settings.queue import QueueSettings
from jobs.fairness import ServiceTier

TIERS = len(ServiceTier)


class ReadySet:
    """The waiting jobs of one model."""

    def __init__(self, settings: QueueSettings) -> None:
        self.ageing_seconds = settings.ageing_seconds
        self._ageing_every = settings.ageing_every
        self._tiers: list[list[tuple[float, int, float, float]]] = [[] for _ in range(TIERS)]
        self._virtual = [0.0] * TIERS
        self._finishes: list[dict[str, float]] = [{} for _ in range(TIERS)]
        self._since_aged = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def submit(
        self, job: int, account: str, tier: int, cost: float, now: float, weight: float = 1.0
    ) -> None:
        """Add a job in the order of its virtual finish time.

        Args:
            job: The job's index in the trace.
            account: Whose fair share it uses.
            tier: The rank of its service tier; 0 is served first.
            cost: Input and output tokens.
            now: Seconds since the start.
            weight: The account's weight; its cost is divided by it.
        """
        finishes = self._finishes[tier]
        start = max(self._virtual[tier], finishes.get(account, 0.0))
        finishes[account] = tag = start + cost / weight
        heappush(self._tiers[tier], (tag, job, start, now))
        self._size += 1

    def put_back(self, job: int, tier: int, start: float, now: float) -> None:
        """Add a job that a drain handed over at the front of its tier."""
        heappush(self._tiers[tier], (0.0, job, start, now))
        self._size += 1

    def claim(self, now: float) -> tuple[int, float]:
        """Remove the next job; return it and its virtual start time.

        Raises:
            IndexError: no job is waiting.
        """
        head = next((tier for tier, jobs in enumerate(self._tiers) if jobs), None)
        if head is None:
            raise IndexError("the ready set is empty")
        self._since_aged += 1
        if self._since_aged >= self._ageing_every:
            old = self._aged(head, now)
            if old is not None:
                self._since_aged, head = 0, old
        _, job, start, _ = heappop(self._tiers[head])
        self._virtual[head] = max(self._virtual[head], start)
        self._size -= 1
        return job, start

    def _aged(self, head: int, now: float) -> int | None:
        """Return the lower tier whose first job waited longest, if longer than the ageing time."""
        waiting = [
            (jobs[0][3], tier)
            for tier, jobs in enumerate(self._tiers)
            if tier > head and jobs and now - jobs[0][3] >= self.ageing_seconds
        ]
        return min(waiting)[1] if waiting else None
