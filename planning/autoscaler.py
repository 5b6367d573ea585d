"""KEDA and its HorizontalPodAutoscaler (HPA) as pure decisions over time.

KEDA polls every `polling_seconds` and decides only between zero and more than zero: an active
trigger scales an empty fleet to one worker; `cooldown_seconds` after it was last active, the fleet
is scaled to zero in one step. The HPA decides everything else. Every `sync_seconds` it reads the
metric, computes ceil(metric / target) workers unless that is within the tolerance, takes the most
conservative value of each direction's stabilisation window, and keeps to the rates of `behavior`
(kubernetes/pkg/controller/podautoscaler/horizontal.go).
Invariant: within a period the HPA changes the fleet by no more than its policies allow.
"""

from collections import deque
from math import ceil, floor

from planning.policy import Behaviour, Policy


class Hpa:
    """The HPA with its past recommendations and changes."""

    def __init__(self, policy: Policy, slots: int) -> None:
        self._policy = policy
        self._target = policy.target * slots
        self._least = max(1, policy.min_replicas)
        self._recommendations: deque[tuple[float, int]] = deque()
        self._ups: deque[tuple[float, int]] = deque()
        self._downs: deque[tuple[float, int]] = deque()

    def sync(self, now: float, replicas: int, metric: float) -> int:
        """Return the wanted number of workers; call it only while there is at least one.

        Args:
            now: Seconds since the start.
            replicas: The present number of workers.
            metric: The metric's sum over all workers.
        """
        if not self._recommendations:
            self._recommendations.append((now, replicas))  # as the controller does when it starts
        wanted = self._bounded(self._recommend(replicas, metric))
        steady = self._stabilised(now, replicas, wanted)
        target = self._bounded(self._limited(now, replicas, steady))
        if target > replicas:
            self._ups.append((now, target - replicas))
        elif target < replicas:
            self._downs.append((now, replicas - target))
        return target

    def _bounded(self, replicas: int) -> int:
        return max(self._least, min(self._policy.max_replicas, replicas))

    def _recommend(self, replicas: int, metric: float) -> int:
        """Return the result of the formula for a metric of type AverageValue."""
        ratio = metric / (self._target * replicas)
        if abs(ratio - 1) <= self._policy.tolerance:
            return replicas
        return ceil(metric / self._target)

    def _stabilised(self, now: float, replicas: int, wanted: int) -> int:
        """Return the recommendation after both stabilisation windows."""
        self._recommendations.append((now, wanted))
        up, down = self._policy.up.window_seconds, self._policy.down.window_seconds
        while self._recommendations[0][0] <= now - max(up, down, 1):
            self._recommendations.popleft()
        least = min((w for at, w in self._recommendations if at > now - up), default=wanted)
        most = max((w for at, w in self._recommendations if at > now - down), default=wanted)
        return min(max(replicas, min(least, wanted)), max(most, wanted))

    def _limited(self, now: float, replicas: int, wanted: int) -> int:
        """Limit the recommendation to the allowed rates of change."""
        if wanted > replicas:
            rule = self._policy.up
            added, removed = self._changes(now, rule)
            return min(wanted, max(replicas, _most(rule, replicas - added + removed)))
        if wanted < replicas:
            rule = self._policy.down
            added, removed = self._changes(now, rule)
            return max(wanted, min(replicas, _least(rule, replicas - added + removed)))
        return wanted

    def _changes(self, now: float, rule: Behaviour) -> tuple[int, int]:
        """Return how many workers were added and removed in the last period."""
        longest = max(self._policy.up.period_seconds, self._policy.down.period_seconds)
        counts = []
        for changes in (self._ups, self._downs):
            while changes and changes[0][0] <= now - longest:
                changes.popleft()
            counts.append(sum(n for at, n in changes if at > now - rule.period_seconds))
        return counts[0], counts[1]


class Keda:
    """KEDA's part: scaling from and to zero."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._last_active = 0.0

    def poll(self, now: float, replicas: int, metric: float) -> int:
        """Return the wanted number of workers; arguments as for `Hpa.sync`."""
        if metric > self._policy.activation:
            self._last_active = now
            return max(replicas, 1, self._policy.min_replicas)
        if self._policy.min_replicas or now - self._last_active <= self._policy.cooldown_seconds:
            return max(replicas, self._policy.min_replicas)
        return 0


def _most(rule: Behaviour, start: int) -> int:
    """Return the size that a fleet of `start` may grow to within a period."""
    return max(
        start + (rule.pods or 0),
        ceil(start * (1 + rule.percent / 100)) if rule.percent else 0,
    )


def _least(rule: Behaviour, start: int) -> int:
    """Return the size that a fleet of `start` may shrink to within a period."""
    return min(
        start - (rule.pods or 0),
        floor(start * (1 - rule.percent / 100)) if rule.percent else start,
    )
