"""What one queue looks like at a moment, as `scripts/observe.lua` reads it in one step."""

from collections.abc import Sequence
from dataclasses import dataclass

from jobs.fairness import ServiceTier

#: How many of the next jobs of a tier are looked at for the oldest: accounts that wait at once.
LOOK_AT = 200

TIERS = tuple(sorted(ServiceTier, key=lambda tier: tier.rank))


@dataclass(frozen=True, slots=True)
class QueueState:
    """Jobs by where they are, and who serves them.

    `delayed` wait for a retry, `parked` for their account's cap. `oldest_seconds` has the tiers in
    which a job is ready to start.
    """

    running: int
    delayed: int
    parked: int
    workers: int
    slots: int
    tickets: int
    ready: dict[ServiceTier, int]
    oldest_seconds: dict[ServiceTier, float]

    @classmethod
    def of(cls, answer: Sequence[int]) -> "QueueState":
        """Read the script's answer."""
        ready, oldest = answer[6::2], answer[7::2]
        running, delayed, parked, workers, slots, tickets = answer[:6]
        return cls(
            running=running,
            delayed=delayed,
            parked=parked,
            workers=workers,
            slots=slots,
            tickets=tickets,
            ready=dict(zip(TIERS, ready, strict=True)),
            oldest_seconds={
                tier: age / 1000 for tier, age in zip(TIERS, oldest, strict=True) if age >= 0
            },
        )
