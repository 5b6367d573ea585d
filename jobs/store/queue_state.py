"""The state of one queue at one moment, as `scripts/observe.lua` reads it in one step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jobs.fairness import ServiceTier
from jobs.store.queue_control import QueueMode
from jobs.store.script_rows import ObservedRow

#: How many of the next jobs of a tier are examined for the oldest: one per waiting account.
LOOK_AT = 200

TIERS = tuple(sorted(ServiceTier, key=lambda tier: tier.rank))


@dataclass(frozen=True, slots=True)
class QueueState:
    """The mode, and numbers of jobs by place, of workers and of their slots.

    `delayed` jobs wait for a retry, `parked` ones for their account's cap, `apart` ones for a
    worker that runs them alone. `oldest_seconds` holds the longest wait of each tier that has a
    ready job. `loading` workers load their model.
    """

    running: int
    delayed: int
    parked: int
    apart: int
    workers: int
    slots: int
    tickets: int
    loading: int
    mode: QueueMode
    ready: dict[ServiceTier, int]
    oldest_seconds: dict[ServiceTier, float]

    @classmethod
    def of(cls, answer: Sequence[Any]) -> "QueueState":
        """Read the answer of `observe.lua`: an ObservedRow, then (ready, oldest ms) per tier."""
        head = len(ObservedRow._fields)
        ready, oldest = answer[head::2], answer[head + 1 :: 2]
        row = ObservedRow(*answer[:head])
        return cls(
            **(row._asdict() | {"mode": QueueMode(row.mode.decode())}),
            ready=dict(zip(TIERS, ready, strict=True)),
            oldest_seconds={
                tier: age / 1000 for tier, age in zip(TIERS, oldest, strict=True) if age >= 0
            },
        )
