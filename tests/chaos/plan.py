"""The plan of faults: which fault happens when, derived from a seed alone.

Invariant: the same seed and length give the same faults at the same times on the same victim
numbers; which process has that number depends on the run.
"""

from dataclasses import dataclass
from random import Random

#: How often each fault comes, relative to the others, and for how many seconds it lasts.
FAULTS: dict[str, tuple[float, float, float]] = {
    "worker-kill": (6, 0, 0),
    "worker-term": (5, 0, 0),
    "worker-quit": (1, 0, 0),
    "worker-freeze": (6, 0.3, 7.0),
    "control-kill": (2, 0, 0),
    "control-freeze": (3, 0.5, 5.0),
    "api-kill": (3, 0, 0),
    "api-term": (2, 0, 0),
    "api-freeze": (3, 0.3, 4.0),
    "redis-kill": (3, 0.1, 1.5),
    "redis-freeze": (4, 0.1, 2.0),
    "net-reset": (14, 0, 0),
    "net-half-close": (5, 0, 0),
    "net-darken": (7, 0, 0),
    "net-black-hole": (4, 0.2, 3.0),
    "net-refuse": (4, 0.2, 2.0),
    "net-latency": (7, 0.5, 3.0),
    "ticket-lose": (9, 0, 0),
    "ticket-double": (9, 0, 0),
    "ticket-garbage": (6, 0, 0),
    "poison-exit": (1, 0, 0),
    "poison-segv": (1, 0, 0),
    "poison-die": (2, 0, 0),
    "poison-hang": (1, 0, 0),
    "poison-error": (3, 0, 0),
}
#: Seconds between two faults, at least and at most.
PACE = (0.25, 1.25)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: `victim` picks among those there are, `share` how many of them or how much."""

    at: float
    kind: str
    victim: int
    share: float
    seconds: float


def plan(seed: int, seconds: float) -> list[Fault]:
    """Return the faults of a run."""
    random = Random(f"faults {seed}")
    kinds = list(FAULTS)
    weights = [FAULTS[kind][0] for kind in kinds]
    faults: list[Fault] = []
    at = 1.0
    while at < seconds:
        kind = random.choices(kinds, weights)[0]
        _, least, most = FAULTS[kind]
        faults.append(
            Fault(at, kind, random.randrange(1000), random.random(), random.uniform(least, most))
        )
        at += random.uniform(*PACE)
    return faults
