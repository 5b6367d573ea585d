"""The outcome of a simulated run: waiting times, service level, GPU hours, cost.

Invariant: every figure is computed from the per-request records; no figure is estimated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from planning.profile import EngineProfile
from planning.trace import Trace

HOUR = 3600
MILLION = 1_000_000
QUANTILES = (0.5, 0.95, 0.99)
CENT = Decimal("0.01")
MICRO = Decimal("0.000001")

Moment = Literal["first_token", "claim"]


class Sample(NamedTuple):
    """The state at one time, in seconds since the start."""

    at: float
    queued: int
    running: int
    replicas: int
    serving: int


@dataclass(frozen=True, slots=True)
class Objective:
    """The objective of a plan, and the price of a GPU.

    Attributes:
        seconds: The longest allowed time from submit to the moment `on`.
        share: The share of requests that must keep to it, 0 to 1.
        gpu_hour_cost: The price of a GPU hour.
        on: The moment that counts: the first token or the claim.
    """

    seconds: float
    share: float
    gpu_hour_cost: Decimal
    on: Moment = "first_token"


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean, quantiles and maximum of a set of times, in seconds."""

    mean: float
    p50: float
    p95: float
    p99: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Return mean, quantiles (nearest rank) and maximum."""
        if not values:
            return cls(0.0, 0.0, 0.0, 0.0, 0.0)
        ordered = sorted(values)
        p50, p95, p99 = (ordered[quantile_index(share, len(ordered))] for share in QUANTILES)
        return cls(sum(ordered) / len(ordered), p50, p95, p99, ordered[-1])

    def as_dict(self) -> dict[str, float]:
        """Return what `--json` prints."""
        return {
            "mean": round(self.mean, 6),
            "p50": round(self.p50, 6),
            "p95": round(self.p95, 6),
            "p99": round(self.p99, 6),
            "max": round(self.most, 6),
        }


def quantile_index(share: float, count: int) -> int:
    """Return the index of the nearest rank in a sorted list."""
    return min(count - 1, max(0, -int(-share * count // 1) - 1))


@dataclass(frozen=True, slots=True)
class StudyOutcome:
    """One run; times are in seconds since the start, and -1 means never."""

    trace: Trace
    profile: EngineProfile
    starts: Sequence[float]
    firsts: Sequence[float]
    ends: Sequence[float]
    seconds: float
    paid_seconds: float
    busy_seconds: float
    worker_starts: int
    handed_over: int
    sizes: Sequence[tuple[float, int]]
    samples: Sequence[Sample]
    complete: bool

    def waits(self) -> list[float]:
        """Return the seconds from submit to claim of the requests that were claimed."""
        return _since(self.trace.arrivals, self.starts)

    def first_tokens(self) -> list[float]:
        """Return the seconds from submit to the first token."""
        return _since(self.trace.arrivals, self.firsts)

    def latencies(self) -> list[float]:
        """Return the seconds from submit to the end."""
        return _since(self.trace.arrivals, self.ends)

    @property
    def served(self) -> int:
        """How many requests ended."""
        return sum(end >= 0 for end in self.ends)

    def moments(self, on: Moment) -> Sequence[float]:
        """Return the time at which each request reached an objective's moment."""
        return self.firsts if on == "first_token" else self.starts

    def within(self, objective: Objective) -> float:
        """Return the share of all requests that kept to the objective's seconds."""
        delays = _since(self.trace.arrivals, self.moments(objective.on))
        return sum(delay <= objective.seconds for delay in delays) / len(self.trace)

    def meets(self, objective: Objective) -> bool:
        """Return whether the run went to its end and met the objective."""
        return self.complete and self.within(objective) >= objective.share

    @property
    def gpu_hours(self) -> float:
        """GPU hours paid for, starts and drains included."""
        return self.paid_seconds * self.profile.gpus / HOUR

    @property
    def peak(self) -> int:
        """The largest number of workers at one time."""
        return max(size for _, size in self.sizes)

    def cost(self, gpu_hour_cost: Decimal) -> Decimal:
        """Return what the GPU hours cost."""
        return Decimal(repr(self.gpu_hours)) * gpu_hour_cost

    def cost_per_million(self, gpu_hour_cost: Decimal) -> Decimal | None:
        """Return the cost per million tokens of served requests; None if none was served."""
        tokens = sum(
            i + o
            for i, o, end in zip(self.trace.inputs, self.trace.outputs, self.ends, strict=True)
            if end >= 0
        )
        return self.cost(gpu_hour_cost) * MILLION / tokens if tokens else None

    def as_dict(self, objective: Objective) -> dict[str, Any]:
        """Return what `--json` prints; money as strings."""
        per_million = self.cost_per_million(objective.gpu_hour_cost)
        return {
            "requests": len(self.trace),
            "served": self.served,
            "wait_seconds": Spread.of(self.waits()).as_dict(),
            "first_token_seconds": Spread.of(self.first_tokens()).as_dict(),
            "latency_seconds": Spread.of(self.latencies()).as_dict(),
            "within_slo": round(self.within(objective), 6),
            "meets_slo": self.meets(objective),
            "gpu_hours": round(self.gpu_hours, 4),
            "cost": str(self.cost(objective.gpu_hour_cost).quantize(CENT)),
            "cost_per_million_tokens": None
            if per_million is None
            else str(per_million.quantize(MICRO)),
            "utilization": round(self.busy_seconds / self.paid_seconds, 4)
            if self.paid_seconds
            else 0.0,
            "peak_workers": self.peak,
            "mean_workers": round(self.paid_seconds / self.seconds, 3) if self.seconds else 0.0,
            "worker_starts": self.worker_starts,
            "handed_over": self.handed_over,
            "seconds": round(self.seconds, 3),
        }


def _since(arrivals: Sequence[float], moments: Sequence[float]) -> list[float]:
    return [
        moment - arrival for arrival, moment in zip(arrivals, moments, strict=True) if moment >= 0
    ]
